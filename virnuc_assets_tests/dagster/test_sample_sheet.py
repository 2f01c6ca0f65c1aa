"""Sample sheets: what they say, how wrong ones are told, and that it reaches index and calls."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.classifier.head_files import head_digest, read_card, read_weights, save_head
from virnuc_assets.errors import InputError
from virnuc_assets.mini import bundled
from virnuc_assets.sample_sheet import listed_files, read_sheet, register_sheet
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import from_environment
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import Sample, all_samples, register, registered
from virnuc_assets_tests import untrained
from virnuc_assets_tests.dagster.deployment import FASTA

MODELS = from_environment().models
UNTRAINED_HEAD = untrained.folder() / "head"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "store")


@pytest.fixture
def write(tmp_path):
    """Write a sheet beside two sequence files, `a b.fa` and `deep/c.fa`."""
    (tmp_path / "deep").mkdir()
    for name in ("a b.fa", "deep/c.fa"):
        (tmp_path / name).write_text(FASTA)

    def write(text, **options):
        sheet = tmp_path / "samples.csv"
        sheet.write_text(text, **options)
        return sheet

    return write


def own_head(layout, name, chunk_length):
    """An imported head that is the untrained one for chunks of one length."""
    card = replace(untrained.HEAD_CARD, name=name, chunk_length=chunk_length)
    save_head(layout.heads / name, card, read_weights(UNTRAINED_HEAD, untrained.HEAD_CARD))
    return name


def test_a_line_says_what_it_does_not_share(layout, write, tmp_path):
    own_head(layout, "mine", 300)
    sheet = write(
        "name,path,chunk length,head\n"
        "one,a b.fa,300,mine\n"
        ",deep/c.fa,,\n"
        f"full,{tmp_path / 'deep' / 'c.fa'},,{UNTRAINED_HEAD}\n"
    )
    assert read_sheet(layout, sheet, MODELS) == [
        Sample("one", str(tmp_path / "a b.fa"), 300, "mine"),
        Sample("c", str(tmp_path / "deep" / "c.fa")),
        Sample("full", str(tmp_path / "deep" / "c.fa"), None, str(UNTRAINED_HEAD)),
    ]
    assert all_samples(layout) == [], "reading registers nothing"


def test_path_is_all_that_a_sheet_needs(layout, write, tmp_path):
    samples = register_sheet(layout, write("path\na b.fa\n\ndeep/c.fa\n"), MODELS)
    assert [sample.name for sample in samples] == ["a_b", "c"]
    assert all_samples(layout) == samples


def test_a_sheet_from_a_spreadsheet_is_read(layout, write):
    sheet = write("Path,Chunk length,,\r\na b.fa, 500 ,,\r\n", encoding="utf-8-sig")
    with pytest.raises(InputError, match="name the column path there"):
        read_sheet(layout, sheet, MODELS)
    sheet = write("Path,Chunk length\r\na b.fa, 500 \r\n,\r\n", encoding="utf-8-sig")
    assert read_sheet(layout, sheet, MODELS)[0].chunk_length == 500


def test_the_bundled_head_goes_by_its_name(layout, write):
    (sample,) = read_sheet(layout, write(f"path,head\na b.fa,{bundled.NAME}\n"), MODELS)
    assert read_card(Path(sample.head)).label == bundled.NAME


def test_every_faulty_line_is_named_and_nothing_is_registered(layout, write, tmp_path):
    own_head(layout, "short", 300)
    (tmp_path / "known.fa").write_text(FASTA)
    register(layout, "known", tmp_path / "known.fa")
    sheet = write(
        "name,path,chunk_length,head\n"
        "good,a b.fa,,\n"
        "gone,nowhere.fa,,\n"
        "a|b,a b.fa,,\n"
        "x,,500,\n"
        "y,a b.fa,five hundred,\n"
        "z,a b.fa,2,\n"
        "good,deep/c.fa,,\n"
        "h,a b.fa,,no such head\n"
        "w,a b.fa,500,short\n"
        "known,a b.fa,,\n"
        "v,a b.fa,,,,more\n"
    )
    with pytest.raises(InputError) as caught:
        register_sheet(layout, sheet, MODELS)
    sentence = str(caught.value)
    assert sentence.startswith(f"{sheet}: no sample was added; correct line 3: ")
    for part in (
        "line 3: " + str(tmp_path / "nowhere.fa") + ": no such file",
        "line 4: 'a|b' cannot name a sample",
        "line 5: path: Field required",
        "line 6: chunk_length: Input should be a valid integer",
        "line 7: chunk length 2: must be a whole number",
        "line 8: would be sample good, as line 2 is",
        "line 9: ",
        "no such head: no such head",
        "line 10: head short: was trained on chunks of 300 bases and these are of 500",
        "line 11: " + str(tmp_path / "a b.fa") + ": would be sample known",
        "line 12: cell 6: Extra inputs are not permitted",
    ):
        assert part in sentence, part
    assert "line 2:" not in sentence
    assert [sample.name for sample in all_samples(layout)] == ["known"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "its first line is ''; name the column path"),
        (b"name,file\na,b.fa\n", "name the column path"),
        (b"path,path\na,b.fa\n", "each once"),
        (b"path\n", "lists no sample"),
        (b"path\n\xff\xfe\n", "is not a CSV file"),
        (b'path\n"a b.fa\n', "is not a CSV file"),
    ],
)
def test_what_is_no_sheet_is_one_sentence(layout, tmp_path, content, sentence):
    sheet = tmp_path / "samples.csv"
    sheet.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_sheet(layout, sheet, MODELS)
    assert listed_files(sheet) in ([], [tmp_path])


def test_a_sheet_that_is_not_there_is_one_sentence(layout, tmp_path):
    with pytest.raises(InputError, match=r"samples\.csv: cannot be read"):
        read_sheet(layout, tmp_path / "samples.csv", MODELS)


def test_an_empty_cell_takes_back_what_a_line_said_before(layout, write):
    register_sheet(layout, write("path,chunk_length\na b.fa,300\n"), MODELS)
    assert registered(layout, "a_b").chunk_length == 300
    register_sheet(layout, write("path,chunk_length\na b.fa,\n"), MODELS)
    assert registered(layout, "a_b").chunk_length is None


@pytest.mark.platform
def test_chunk_length_and_head_of_a_line_reach_index_and_calls(deployment):
    short = deployment.layout.heads / own_head(deployment.layout, "short", 30)
    deployment.add("plain")
    deployment.add("own", chunk_length=30, head="short")
    for name, length, head in (("plain", 500, UNTRAINED_HEAD), ("own", 30, short)):
        assert deployment.index(name).success
        assert deployment.embed(name).success
        assert deployment.predict(name).success
        assert read_manifest(deployment.layout.index(name)).chunk_length == length
        results = read_json(deployment.layout.predictions(name) / "results.json")
        assert results["provenance"]["chunk_length"] == str(length)
        assert results["provenance"]["head_digest"] == head_digest(head)
    chunks = pl.read_parquet(deployment.layout.predictions("own") / "chunks.parquet")
    assert len(chunks) > 3
