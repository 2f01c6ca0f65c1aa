"""Labelled files put together: the same records in the same order under short names."""

import gzip

import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.training import pooled_files
from virnuc_assets.training.labelled import labelled_fasta
from virnuc_assets.training.pooled_files import pool_files


def silent(_):
    pass


def sequences(fasta):
    """Name → sequence of a FASTA file of two lines a record, read plainly."""
    lines = fasta.read_text().splitlines()
    return dict(zip([line[1:] for line in lines[::2]], lines[1::2], strict=True))


def test_pools_hold_all_records_in_order_under_numbers(write_fasta, tmp_path):
    # The same id in two files is two records.
    virus, other = write_fasta("v.fa", ["a", "b"]), write_fasta("o.fa", ["a", "c", "d"])
    packed = tmp_path / "p.fa.gz"
    packed.write_bytes(gzip.compress(b">e some words\r\nacgu\r\nNNac\r\n"))
    (pool,) = pool_files(labelled_fasta([virus, packed], [other]), tmp_path / "work", silent)
    assert [(one.file.name, one.record_id) for one in pool.records] == [
        ("v.fa", "a"),
        ("v.fa", "b"),
        ("p.fa.gz", "e"),
        ("o.fa", "a"),
        ("o.fa", "c"),
        ("o.fa", "d"),
    ]
    letters = [*sequences(virus).values(), "ACGTNNAC", *sequences(other).values()]
    assert sequences(pool.fasta) == {str(n): text for n, text in enumerate(letters)}
    assert [file.sha256 for file in pool.files] == [sha256_file(p) for p in (virus, packed, other)]


def test_a_full_pool_ends_between_files_and_a_later_file_leaves_it_alone(
    write_fasta, tmp_path, monkeypatch
):
    monkeypatch.setattr(pooled_files, "POOL_BYTES", 500)
    virus, first = write_fasta("v.fa", ["a", "b", "c"]), write_fasta("o.fa", ["d"])
    pools = pool_files(labelled_fasta([virus], [first]), tmp_path / "work", silent)
    assert [len(pool.records) for pool in pools] == [3, 1]
    before = pools[0].fasta.read_bytes()
    later = write_fasta("later.fa", ["e"])
    again = pool_files(labelled_fasta([virus], [first, later]), tmp_path / "work", silent)
    assert [len(pool.records) for pool in again] == [3, 2]
    assert again[0].fasta.read_bytes() == before


def test_a_broken_file_is_named(write_fasta, tmp_path):
    virus, other = write_fasta("v.fa", ["a"]), tmp_path / "o.fa"
    other.write_text(">x\nACGT\n>y\nAC!T\n")
    with pytest.raises(InputError, match=r"o\.fa: record 'y' holds '!'"):
        pool_files(labelled_fasta([virus], [other]), tmp_path / "work", silent)
