"""Which records are viral, as manifests and tables of records say it."""

import gzip
import os
from pathlib import Path

import pytest

from virnuc_assets.errors import InputError
from virnuc_assets.training.labelled import LabelledRecord, labelled_files, read_labelled


def test_a_manifest_labels_all_records_of_its_files(write_fasta, write_table):
    virus, other = write_fasta("a/v.fa", ["v1"]), write_fasta("o.fa", ["o1"])
    manifest = write_table(
        "m.tsv",
        "file class group split genus genome notes",
        "a/v.fa virus phage train   x",
        f"{other} other   Vibrio V1 y",
    )
    files = read_labelled(manifest)
    assert files.label(virus, ["v1", "v2"]) == [
        LabelledRecord("v1", virus, True, "phage", "v1", "train"),
        LabelledRecord("v2", virus, True, "phage", "v2", "train"),
    ]
    assert files.label(other, ["o1"]) == [
        LabelledRecord("o1", other, False, "other", "Vibrio", None)
    ]
    assert files.tables == (manifest,)


def test_a_table_of_records_holds_where_it_says_something(write_fasta, write_table, tmp_path):
    virus, other = write_fasta("v.fa", ["v1", "v2"]), write_fasta("o.fa", ["o1"])
    manifest = write_table(
        "m.tsv", "file class group split", "v.fa virus phage test", "o.fa other  "
    )
    plain = write_table(
        "r.tsv",
        "record_id file group genus virus_cluster split",
        "v1 v.fa   C1 train",
        "v2 v.fa plant-virus G2 C2 ",
        "o1 o.fa  G3  ",
        "elsewhere not-in-the-manifest.fa  G9  ",
    )
    records = tmp_path / "r.tsv.gz"
    records.write_bytes(gzip.compress(plain.read_bytes()))
    files = read_labelled(manifest, records)
    assert files.label(virus, ["v1", "v2"]) == [
        LabelledRecord("v1", virus, True, "phage", "C1", "train"),
        LabelledRecord("v2", virus, True, "plant-virus", "C2", "test"),
    ]
    assert files.label(other, ["o1"]) == [LabelledRecord("o1", other, False, "other", "G3", None)]


def test_files_named_outright_are_a_genome_a_record(write_fasta):
    virus, other = write_fasta("v.fa", ["a"]), write_fasta("o.fa", ["b"])
    files = labelled_files(None, None, [virus], [other])
    assert files.label(virus, ["a"]) == [LabelledRecord("a", virus, True, "virus", "a", None)]
    assert files.label(other, ["b"]) == [LabelledRecord("b", other, False, "other", "b", None)]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["file group", "v.fa x"], "m.tsv: has no column class but file, group; give"),
        (["file class"], "m.tsv: has no rows; give a table with at least one"),
        (["file class", "v.fa virus", " other"], "m.tsv: line 3 has no file; fill it in or"),
        (["file class", "v.fa viral"], "m.tsv: line 2 has the class 'viral'; write virus or other"),
        (
            ["file class split", "v.fa virus dev"],
            "m.tsv: line 2 has the split 'dev'; write train, validation or test, or leave it",
        ),
        (["file class", "x.fa virus"], "m.tsv: line 2: there is no file {}/x.fa; correct the path"),
        (
            ["file class", "v.fa virus", "./v.fa other"],
            "m.tsv: line 3 names ./v.fa again; keep one of the lines",
        ),
        (
            ["file class", "v.fa virus"],
            "m.tsv: labels nothing as other, and a classifier needs both classes; add files",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_sentence(
    lines, sentence, write_fasta, write_table, tmp_path
):
    write_fasta("v.fa", ["v"])
    with pytest.raises(InputError) as error:
        read_labelled(write_table("m.tsv", *lines))
    assert str(error.value).startswith(f"{tmp_path}/{sentence.format(tmp_path)}")


def test_records_and_files_must_agree(write_fasta, write_table, tmp_path):
    virus = write_fasta("v.fa", ["v1", "v2"])
    write_fasta("o.fa", ["o1"])
    manifest = write_table("m.tsv", "file class", "v.fa virus", "o.fa other")
    lines = ("record_id file genus", "v1 v.fa G", "v2 v.fa G", "o1 o.fa H")
    files = read_labelled(manifest, write_table("r.tsv", *lines))
    with pytest.raises(InputError, match=r"r\.tsv: has no line for record v3 of .*/v\.fa; add one"):
        files.label(virus, ["v1", "v2", "v3"])
    with pytest.raises(InputError, match=r"r\.tsv: names record v2, which .*/v\.fa does not have"):
        files.label(virus, ["v1"])
    with pytest.raises(InputError, match=r"r\.tsv: line 5 names record v1 of v\.fa again; keep"):
        read_labelled(manifest, write_table("r.tsv", *lines, "v1 v.fa H"))


def test_what_is_given_must_be_enough_and_no_more(write_fasta, write_table, tmp_path):
    virus, missing = write_fasta("v.fa", ["v"]), tmp_path / "missing.fa"
    with pytest.raises(InputError, match="--other: no file is given"):
        labelled_files(None, None, [virus], [])
    with pytest.raises(InputError, match=r"missing\.fa: no such file; check the path"):
        labelled_files(None, None, [virus], [missing])
    with pytest.raises(InputError, match=r"v\.fa: is given twice"):
        labelled_files(None, None, [virus], [virus])
    with pytest.raises(InputError, match=r"v\.fa: is given beside --virus or --other"):
        labelled_files(virus, None, [virus], [])
    with pytest.raises(InputError, match=r"v\.fa: belongs to a manifest"):
        labelled_files(None, virus, [], [])


def test_a_manifest_without_genomes_says_so(write_fasta, write_table, caplog):
    write_fasta("v.fa", ["v"])
    write_fasta("o.fa", ["o"])
    read_labelled(write_table("m.tsv", "file class", "v.fa virus", "o.fa other"))
    assert "each record counts as a genome of its own" in caplog.text


DATA = Path(os.environ.get("VIRNUC_TEST_DATA", "nowhere"))


@pytest.mark.skipif(not (DATA / "manifest.tsv").exists(), reason="no VIRNUC_TEST_DATA")
def test_the_real_tables_fit_as_they_are():
    files = read_labelled(DATA / "manifest.tsv", DATA / "records.tsv.gz")
    assert files.records is not None
    records = [one for file, named in files.records.items() for one in files.label(file, named)]
    assert {one.split for one in records} == {"train", "test"}
    assert all(one.genome != one.record_id for one in records)
