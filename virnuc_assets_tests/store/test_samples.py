from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import write_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import (
    Sample,
    all_samples,
    check_name,
    earlier_registration,
    is_sequence_file,
    register,
    registered,
    sample_name,
)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("reads.fa", "reads"),
        ("reads.fasta.gz", "reads"),
        ("R.FA.GZ", "R"),
        ("Run 7 (final).FNA", "Run_7_final_"),
        ("a.b-c_d.fa.gz", "a.b-c_d"),
        ("up...to.fa", "up.to"),
        ("lane1_R1.fastq.gz", "lane1_R1"),
        ("bins.FNA.bgz", "bins"),
        ("reads.fq.zst", "reads"),
        (".fa", "sample"),
    ],
)
def test_sample_names_come_from_file_names(file, name):
    assert sample_name(Path(file)) == name


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1))
def test_every_file_name_gives_a_usable_sample_name(stem):
    assert check_name(sample_name(Path("inbox") / f"{stem}.fa"))


@pytest.mark.parametrize("name", ["", "a|b", "a...b", "a b", "..", "a/b"])
def test_unusable_names_are_refused(name):
    with pytest.raises(InputError, match="cannot name a sample"):
        check_name(name)


def test_only_sequence_files_are_taken():
    taken = [
        n
        for n in ("a.fa", "a.FASTA.gz", "a.fq.zst", ".a.fa", "a.txt", "a.fa.tmp", "a.gz")
        if is_sequence_file(Path(n))
    ]
    assert taken == ["a.fa", "a.FASTA.gz", "a.fq.zst"]


def test_registration_remembers_the_file(tmp_path):
    layout = Layout(tmp_path / "store")
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\nACGT\n")
    sample = register(layout, "x", fasta)
    assert registered(layout, "x") == sample
    assert all_samples(layout) == [sample]
    with pytest.raises(InputError, match="'y' is not a known sample; add it with"):
        registered(layout, "y")
    with pytest.raises(InputError, match="no such file"):
        register(layout, "y", tmp_path / "y.fa")


def test_a_sample_keeps_what_is_its_own_until_it_is_registered_again(tmp_path):
    layout = Layout(tmp_path / "store")
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\nACGT\n")
    assert earlier_registration(layout, "x", fasta) is None
    sample = register(layout, "x", fasta, chunk_length=300, head="mine")
    assert (sample.chunk_length, sample.head) == (300, "mine")
    assert earlier_registration(layout, "x", fasta) == registered(layout, "x") == sample
    assert register(layout, "x", fasta) == Sample("x", str(fasta))


def test_a_registration_of_an_earlier_version_is_read(tmp_path):
    layout = Layout(tmp_path / "store")
    write_json(layout.sample("x"), {"name": "x", "source": "/x.fa"})
    assert registered(layout, "x") == Sample("x", "/x.fa")


def test_a_name_stays_with_its_file(tmp_path):
    layout = Layout(tmp_path / "store")
    first, second = tmp_path / "x.fa", tmp_path / "other" / "x.fa"
    second.parent.mkdir()
    for fasta in (first, second):
        fasta.write_text(">a\nACGT\n")
    register(layout, "x", first)
    with pytest.raises(InputError, match=r"other/x\.fa: would be sample x, which is made from"):
        register(layout, "x", second)
    first.unlink()
    assert register(layout, "x", second).source == str(second)
