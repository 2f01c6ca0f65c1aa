"""A sequence list keeps a FASTA's ids in input order and its distinct sequences once."""

from __future__ import annotations

import hashlib

import pyarrow.parquet as pq
import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.sequence_list import LIST_FILE, UNIQUE_FILE, build_sequence_list
from virnuc_assets.store.sequence_table import SequenceTable


def listed(directory):
    columns = pq.read_table(directory / LIST_FILE).to_pydict()
    assert columns["ordinal"] == list(range(len(columns["ordinal"])))
    sequences = SequenceTable(directory / UNIQUE_FILE).take(columns["row"])
    return list(zip(columns["id"], sequences, strict=True))


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_proteins(write, tmp_path):
    path = write(">p1 kinase\nMKV\n>p2\nMKVUX\n>p3\nmkv\n>p4\nAAA\n")
    manifest = build_sequence_list(path, tmp_path / "list", "protein")
    assert listed(tmp_path / "list") == [
        ("p1", "MKV"),
        ("p2", "MKVUX"),
        ("p3", "MKV"),
        ("p4", "AAA"),
    ]
    table = SequenceTable(tmp_path / "list" / UNIQUE_FILE)
    assert table.take([0, 1, 2]) == ["MKVUX", "AAA", "MKV"]
    assert (manifest.records, manifest.unique_sequences, manifest.residues) == (4, 3, 11)
    assert manifest.warnings == ()
    digest = hashlib.sha256((tmp_path / "list" / UNIQUE_FILE).read_bytes()).hexdigest()
    assert manifest.sequences_sha256 == digest


def test_nucleotides_are_neither_cut_nor_translated(write, tmp_path):
    manifest = build_sequence_list(
        write(">a\n" + "ACGU" * 500 + "\n>b\nTAA\n"), tmp_path / "list", "nucleotide"
    )
    assert listed(tmp_path / "list") == [("a", "ACGT" * 500), ("b", "TAA")]
    assert manifest.warnings == ("1 of 2 records hold U (RNA), which was read as T",)


def test_a_failed_rebuild_leaves_the_earlier_list(write, tmp_path):
    build_sequence_list(write(">a\nMKV\n"), tmp_path / "list", "protein")
    before = contents(tmp_path / "list")
    with pytest.raises(InputError, match="record 'b' has no sequence"):
        build_sequence_list(write(">a\nMKV\n>b\n"), tmp_path / "list", "protein")
    assert contents(tmp_path / "list") == before


def test_the_digest_follows_the_file_and_the_kind(write, tmp_path):
    path = write(">a\nACG\n")
    first, again, other = (
        build_sequence_list(path, tmp_path / "list", kind).index_digest
        for kind in ("nucleotide", "nucleotide", "protein")
    )
    assert first == again != other
