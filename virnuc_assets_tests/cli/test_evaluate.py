"""`virnuc evaluate`: the bundled sample, whose records are known, and what it refuses."""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from virnuc_assets.demo.sample import FASTA, TRUTH
from virnuc_assets.inspection import inspect
from virnuc_assets.store.atomic import read_json
from virnuc_assets_tests.cli.conftest import Virnuc

CLOSED = "TAACTAACTAACTAACTAACTTAGTTAGTTAGTTAGTTAG"
MADE = ("metrics.json", "metrics.tsv", "evaluation.html")


def demo_records() -> dict[str, str]:
    """The bundled sample's short records and the first of its long ones, and one without a call."""
    parts = FASTA.read_text().split(">")[1:]
    records = {part.split()[0]: "".join(part.split("\n")[1:]) for part in parts}
    short = [name for name, sequence in records.items() if len(sequence) < 1000][::4]
    return {name: records[name] for name in [next(iter(records)), *short]} | {"closed": CLOSED}


def demo_labels() -> dict[str, str]:
    with TRUTH.open(newline="") as handle:
        known = {row["id"]: row["label"] for row in csv.DictReader(handle, delimiter="\t")}
    return {name: known.get(name, "other") for name in demo_records()}


def write_fasta(path: Path, records: dict[str, str]) -> None:
    path.write_text("".join(f">{name} x\n{sequence}\n" for name, sequence in records.items()))


@dataclass(frozen=True)
class Evaluated:
    """A folder that `virnuc evaluate` was called in, and what the call said."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    def rows(self, out: str, **where: object) -> list[dict]:
        return (
            pl.DataFrame(read_json(self.folder / out / "metrics.json")["metrics"])
            .filter(**where)
            .to_dicts()
        )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, run_virnuc: Virnuc) -> Evaluated:
    """One file with a truth table, another tool's calls and a mask; then again by class."""
    folder = tmp_path_factory.mktemp("evaluate")
    records, labels = demo_records(), demo_labels()
    write_fasta(folder / "mixed.fa", records)
    lines = [f"{name}\t{label}\tof {label}\n" for name, label in labels.items()]
    (folder / "truth.tsv").write_text("id\tlabel\tgroup\n" + "".join(lines))
    # A tool that is always right, of all records but the one without an open frame.
    calls = [f"{name}\t{label}\n" for name, label in labels.items() if name != "closed"]
    (folder / "right.tsv").write_text("id\tcall\n" + "".join(calls))
    first = next(iter(records))
    (folder / "mask.tsv").write_text(f"record_id\tstart0\tend\n{first}\t0\t2000\n")
    done = run_virnuc(
        *("evaluate", "mixed.fa", "--truth", "truth.tsv", "--calls", "perfect=right.tsv"),
        *("--mask", "mask.tsv", "-o", "out", "--device", "cpu"),
        cwd=folder,
    )
    return Evaluated(folder, done)


def test_metrics_and_a_page_are_made(evaluated: Evaluated) -> None:
    assert evaluated.done.returncode == 0, evaluated.done.stderr
    out = evaluated.folder / "out"
    for name in MADE:
        assert (out / name).stat().st_size
        assert f"{out / name}" in evaluated.done.stdout
    metrics = read_json(out / "metrics.json")
    model = read_json(out / "predictions/mixed/results.json")["model"]
    assert metrics["model"] == model
    assert f"model: {model}" in evaluated.done.stdout
    assert model in (out / "evaluation.html").read_text()
    assert metrics["counts"]["n_records"] == len(demo_records())
    viral = sum(label == "virus" for label in demo_labels().values())
    assert metrics["counts"]["n_virus_records"] == viral
    assert metrics["provenance"]["truth"].startswith("truth.tsv sha256:")


def test_inspect_says_what_was_measured_and_misses_what_is_missing(
    evaluated: Evaluated, tmp_path: Path
) -> None:
    for name in MADE:
        shutil.copy(evaluated.folder / "out" / name, tmp_path)
    found = inspect(tmp_path, deep=False)
    assert (found.kind, found.faults) == ("metrics", ())
    metrics = read_json(tmp_path / "metrics.json")
    assert found.facts["of"] == "an evaluation"
    assert found.facts["truth"] == metrics["provenance"]["truth"]
    assert found.facts["n_records"] == len(demo_records())
    (row,) = evaluated.rows(
        "out", tool="virnuc", level="frames", label="all", weight="groups", no_call="left out"
    )
    assert found.facts["frames_auroc"] == row["auroc"]
    lines = (tmp_path / "metrics.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.tsv").write_text("".join(lines[:-1]))
    (tmp_path / "evaluation.html").unlink()
    missing, short = inspect(tmp_path / "metrics.json", deep=True).faults
    assert "evaluation.html, which was written with it, is missing; evaluate again" in missing
    assert f"metrics.tsv: has {len(lines) - 2} rows and metrics.json {len(lines) - 1}" in short


def test_the_records_are_those_that_predict_calls(evaluated: Evaluated) -> None:
    records = pl.read_parquet(evaluated.folder / "out/predictions/mixed/records.parquet")
    called = int((records["status"] == "called").sum())
    left_out, as_other = (
        evaluated.rows(
            "out", tool="virnuc", level="records", label="all", weight="items", no_call=w
        )
        for w in ("left out", "as other")
    )
    assert (left_out[0]["n"], left_out[0]["n_no_call"]) == (called, len(records) - called)
    counts = read_json(evaluated.folder / "out/metrics.json")["counts"]
    assert counts["n_no_open_frame"] == len(records) - called > 0
    assert as_other[0]["n"] == len(records)
    assert 0 <= left_out[0]["auroc"] <= 1


def test_masked_chunks_are_left_out_and_counted(evaluated: Evaluated) -> None:
    folder = evaluated.folder / "out"
    counts = read_json(folder / "metrics.json")["counts"]
    records = pl.read_parquet(folder / "predictions/mixed/records.parquet")
    # The first 2 000 bases of a long record, in chunks of 500.
    assert counts["n_masked_chunks"] == 4
    assert counts["n_chunks"] == records["n_chunks"].sum() - 4
    assert "the mask left out 4 chunks, and 0 records" in evaluated.done.stdout


def test_another_tools_calls_are_compared(evaluated: Evaluated) -> None:
    (row,) = evaluated.rows("out", tool="perfect", level="records", label="all", weight="items")
    assert (row["n"], row["n_no_call"]) == (len(demo_records()), 1)
    assert (row["call_recall"], row["call_false_positive_rate"], row["call_mcc"]) == (1, 0, 1)
    assert row["auroc"] is None


def test_files_of_one_class_need_no_table(evaluated: Evaluated, run_virnuc: Virnuc) -> None:
    folder = evaluated.folder
    for label in ("virus", "other"):
        mine = {name: s for name, s in demo_records().items() if demo_labels()[name] == label}
        write_fasta(folder / f"only_{label}.fa", mine)
    (folder / "strange.tsv").write_text("record_id\tstart0\tend\nx\t0\t5000\n")
    done = run_virnuc(
        *("evaluate", "--virus", "only_virus.fa", "--other", "only_other.fa", "-o", "by_class"),
        *("--mask", "strange.tsv", "--device", "cpu"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "warning: strange.tsv: names none of the records" in done.stderr
    rows = evaluated.rows("by_class", level="records", label="all", no_call="as other")
    viral = sum(label == "virus" for label in demo_labels().values())
    assert {(row["n"], row["n_virus"]) for row in rows} == {(len(demo_records()), viral)}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A file of two records, a and b, of which `truth.tsv` says what they are."""
    write_fasta(tmp_path / "two.fa", {"a": "ATGGCTAAAGGTGCTGCTCGTAAACGT", "b": "ATGCGTGGTGCTGCTGG"})
    (tmp_path / "truth.tsv").write_text("id\tlabel\na\tvirus\nb\tother\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing to evaluate; give FASTA files with --truth TABLE"),
        (("two.fa",), "two.fa: what its records are is not given; add --truth"),
        (("--truth", "truth.tsv", "--virus", "two.fa"), "--truth truth.tsv: labels the records"),
        (("--virus", "two.fa"), "all 2 records are viral; give other records too"),
        (("--virus", "two.fa", "--other", "two.fa"), "two.fa: is sample two, and so is a file"),
        (("none.fa", "--truth", "truth.tsv"), "none.fa: no such file"),
    ],
)
def test_a_command_that_labels_nothing_is_refused(two, refused, arguments, why) -> None:
    assert refused("evaluate", *arguments, "-o", "out").startswith(why)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("id\tlabel\na\tvirus\n", "truth.tsv: has no line for record 'b' of sample two"),
        (
            "id\tlabel\na\tvirus\nb\tother\nc\tother\nd\tother\n",
            "truth.tsv: names record 'c' (and 1 more), which none of the files holds",
        ),
        ("id\tlabel\na\tother\nb\tother\n", "all 2 records are other; give viral records too"),
        ("id\tclass\na\tvirus\nb\tother\n", "truth.tsv: has no column label but id, class"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(two, refused, table, why) -> None:
    (two / "truth.tsv").write_text(table)
    message = refused("evaluate", "two.fa", "--truth", "truth.tsv", "-o", "out")
    assert message.startswith(why)
    assert not (two / "out" / "predictions").exists()


def test_calls_of_records_that_are_not_there_are_refused(two, refused) -> None:
    (two / "tool.tsv").write_text("id\tcall\na\tvirus\na|1\tvirus\n")
    arguments = ("two.fa", "--truth", "truth.tsv", "--calls", "tool.tsv", "-o", "out")
    assert refused("evaluate", *arguments).startswith("tool.tsv: calls record 'a|1', which none")
