"""`virnuc samples add --sheet` and `virnuc backfill`, as processes on an instance."""

import pytest
from dagster import DagsterInstance

SHEET = "name,path,chunk length\none,dna.fa,300\n,more/two.fa,\n"


@pytest.fixture
def sheet(dna, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two.fa").write_text(">x\nACGT\n")
    path = tmp_path / "samples.csv"
    path.write_text(SHEET)
    return path


def test_the_samples_of_a_sheet_are_added_and_listed(virnuc, sheet, dna, dagster_home, tmp_path):
    added = virnuc("samples", "add", "--sheet", "samples.csv", DAGSTER_HOME=dagster_home)
    two = tmp_path / "more" / "two.fa"
    assert added.stdout == f"one: {dna} (chunks of 300)\ntwo: {two}\n", added.stderr
    listed = virnuc("samples", "list", DAGSTER_HOME=dagster_home).stdout.splitlines()
    assert listed[2].split() == ["one", "no", "0/8", "0/8", "no", "chunks", "of", "300", str(dna)]
    assert listed[3].split() == ["two", "no", "0/8", "0/8", "no", str(two)]


def test_a_sample_that_is_added_again_keeps_what_is_its_own(virnuc, sheet, dna, dagster_home):
    assert virnuc("samples", "add", "--sheet", sheet, DAGSTER_HOME=dagster_home).returncode == 0
    again = virnuc("samples", "add", dna, "--name", "one", DAGSTER_HOME=dagster_home)
    assert again.stdout == f"one: {dna} (chunks of 300)\n", again.stderr


def test_a_sheet_with_faulty_lines_adds_nothing(virnuc, refused, sheet, dagster_home):
    sheet.write_text(SHEET + "three,gone.fa,\nfour,dna.fa,many\n")
    sentence = refused("samples", "add", "--sheet", sheet, DAGSTER_HOME=dagster_home)
    assert "no sample was added; correct line 4: " in sentence and "; line 5: " in sentence
    listed = virnuc("samples", "list", DAGSTER_HOME=dagster_home)
    assert len(listed.stdout.splitlines()) == 2


def test_a_backfill_is_handed_to_the_daemon(virnuc, sheet, dagster_home, monkeypatch):
    assert virnuc("samples", "add", "--sheet", sheet, DAGSTER_HOME=dagster_home).returncode == 0
    done = virnuc("backfill", "--missing", "--priority", "3", DAGSTER_HOME=dagster_home)
    assert done.returncode == 0, done.stderr
    assert "2 samples in 1 backfills, priority 3" in done.stdout
    assert "no daemon has been heard of" in done.stderr and "make ui" in done.stderr
    monkeypatch.chdir(dagster_home)
    with DagsterInstance.from_config(str(dagster_home)) as instance:
        (backfill,) = instance.get_backfills()
    assert backfill.tags["dagster/priority"] == "3"
    assert backfill.title == "one, two"
    assert {key.to_user_string() for key in backfill.asset_selection} == {
        "sequence_index",
        "esm2_embeddings",
        "dnabert_s_embeddings",
        "predictions",
        "sample_report",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "names no sample; name some, or give --all, --missing or --failed-only"),
        (("ghost",), "'ghost' is not a known sample"),
        (("--all", "s"), "--all: is every sample"),
        (("--missing", "--failed-only"), "are two questions"),
    ],
)
def test_a_backfill_that_cannot_be_asked_for(arguments, sentence, refused, dagster_home):
    assert sentence in refused("backfill", *arguments, DAGSTER_HOME=dagster_home)


@pytest.mark.parametrize("arguments", [(), ("a.fa", "--sheet", "samples.csv")])
def test_samples_come_from_files_or_from_a_sheet(arguments, refused, dagster_home):
    sentence = refused("samples", "add", *arguments, DAGSTER_HOME=dagster_home)
    assert "give sequence files, or --sheet" in sentence
