"""`virnuc predict`: several files, some broken; called again, interrupted, and killed."""

from __future__ import annotations

import csv
import html
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import polars as pl
import pyarrow.parquet as pq
import pytest

from virnuc_assets.demo.sample import FASTA
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.layout import Layout
from virnuc_assets_tests.cli.process import COMMAND, NO_MODELS, environment
from virnuc_assets_tests.worker_logs import encoders_loaded

UNTRAINED = "untrained"
CLOSED = ">closed\nTAACTAACTAACTAACTAACTTAGTTAGTTAGTTAGTTAG\n"
RESULTS = {
    "chunks.parquet",
    "frames.parquet",
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "records.parquet",
    "results.json",
}


@dataclass(frozen=True)
class Called:
    """A folder that `virnuc predict` was called on, and what the call said."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def out(self) -> Path:
        return self.folder / "out"


@pytest.fixture(scope="module")
def called(tmp_path_factory, run_virnuc) -> Called:
    """One call on two good files and a broken one."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "demo.fa").write_bytes(FASTA.read_bytes())
    reads = FASTA.read_text().split(">")[-11:]
    (folder / "reads.fa").write_text("".join(f">{read}" for read in reads) + CLOSED)
    (folder / "broken.fa").write_text(">a\nACGT\n>p\nMKVLF\n")
    done = run_virnuc(*arguments("demo.fa", "reads.fa", "broken.fa"), cwd=folder)
    return Called(folder, done)


def arguments(*files: str) -> tuple[str, ...]:
    return ("predict", *files, "-o", "out", "--device", "cpu")


def stamps(root: Path, *patterns: str) -> dict[str, tuple[int, int]]:
    """Which files are there: path → inode and time of change; a file written again differs."""
    found = {}
    for pattern in patterns:
        for path in root.glob(pattern):
            # A running call takes block files away when their shard is whole.
            with suppress(FileNotFoundError):
                status = path.stat()
                found[str(path.relative_to(root))] = (status.st_ino, status.st_mtime_ns)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_broken_file_does_not_stop_the_others(called):
    assert called.done.returncode == 2
    with (called.out / "failed.tsv").open(newline="") as handle:
        (failure,) = csv.DictReader(handle, delimiter="\t")
    assert failure["sample"] == "broken"
    assert failure["file"] == "broken.fa"
    assert "record 'p' holds 'L', which is not a nucleotide" in failure["reason"]
    errors = [line for line in called.done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {failure['reason']}"]
    assert called.done.stderr.endswith(f"1 of 3 files failed; see {called.out}/failed.tsv\n")


def test_small_files_share_one_load_of_each_encoder(called):
    assert encoders_loaded(Layout(called.out)) == len(ENCODERS)


@pytest.mark.parametrize("sample", ["demo", "reads"])
def test_a_good_files_results_are_complete_and_name_the_model(called, sample):
    results = called.out / "predictions" / sample
    assert {path.name for path in results.iterdir()} == RESULTS
    manifest = read_json(results / "results.json")
    assert manifest["model"] == UNTRAINED
    for name, file in manifest["files"].items():
        assert sha256_file(results / name) == file["sha256"]
        if name.endswith(".parquet"):
            assert pq.read_schema(results / name).metadata[b"virnuc.model"] == UNTRAINED.encode()
    ids = re.findall(r"^>(\S+)", (called.folder / f"{sample}.fa").read_text(), re.MULTILINE)
    assert pl.read_parquet(results / "records.parquet")["id"].to_list() == ids
    report = (called.out / "reports" / sample / "report.html").read_text()
    assert UNTRAINED in report


def test_the_table_shows_the_calls_and_the_model(called):
    records = pl.read_parquet(called.out / "predictions" / "reads" / "records.parquet")
    viral = int(records["is_virus"].sum())
    title = f"reads: {viral} of 12 records viral, {records['is_virus'].null_count()} without an"
    lines = called.done.stdout.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith(title))
    assert re.split(r"  +", lines[start + 1].strip()) == [
        *("record", "length", "call", "score", "best chunk, frame", "viral chunks")
    ]
    rows = {
        cells[0]: cells[1:]
        for line in lines[start + 2 : start + 14]
        if (cells := re.split(r"  +", line.strip()))
    }
    assert len(rows) == len(records)
    for record in records.iter_rows(named=True):
        chunks = f"{record['n_viral_chunks']} of {record['n_called_chunks']}"
        if record["status"] == "no_open_frame":
            assert rows[record["id"]] == [str(record["length"]), "no open frame", chunks]
            continue
        chunk, frame = re.fullmatch(r".*_chunk_(\d+)([FR]\d)", record["best_frame"]).groups()
        assert rows[record["id"]] == [
            str(record["length"]),
            "virus" if record["is_virus"] else "other",
            f"{record['score']:.4f}",
            f"{chunk} {frame}",
            chunks,
        ]
    assert lines[start + 2 + len(records)] == f"model: {UNTRAINED}"


def test_a_second_call_does_nothing_again(called, run_virnuc):
    patterns = ("samples/*/embeddings/*/*", "samples/*/index/*")
    before = stamps(called.out, *patterns)
    predictions = contents(called.out / "predictions" / "demo")
    done = run_virnuc(*arguments("demo.fa"), cwd=called.folder)
    assert done.returncode == 0
    assert stamps(called.out, *patterns) == before
    assert contents(called.out / "predictions" / "demo") == predictions
    assert done.stderr.count(" 8 of 8 blocks done before") == 2
    assert not (called.out / "failed.tsv").exists()


def test_with_no_model_set_the_bundled_one_calls_and_everything_names_it(virnuc, tmp_path):
    records = {part.split()[0]: part for part in FASTA.read_text().split(">")[1:]}
    (tmp_path / "few.fa").write_text(f">{records['flu_HA']}>{records['Streptomyces']}")
    done = virnuc(*arguments("few.fa"), **NO_MODELS)
    assert done.returncode == 0, done.stderr
    note = "a small bundled model, not VirNucPro's; see docs/mini_model.md for its accuracy"
    assert f"\nmodel: virnuc-mini-1: {note}\n" in done.stdout
    results = tmp_path / "out" / "predictions" / "few"
    manifest = read_json(results / "results.json")
    assert manifest["model"] == "virnuc-mini-1"
    assert pq.read_schema(results / "records.parquet").metadata[b"virnuc.model"] == b"virnuc-mini-1"
    report = html.unescape((tmp_path / "out/reports/few/report.html").read_text())
    assert f"model: <strong>virnuc-mini-1</strong>: {note}</div>" in report
    scores = dict(pl.read_parquet(results / "records.parquet").select("id", "score").iter_rows())
    assert scores["flu_HA"] > scores["Streptomyces"]


class Run:
    """A `virnuc predict` in a terminal's foreground process group, and everything it started."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"VIRNUC_TEST_RUN={folder}/{time.monotonic_ns()}"
        name, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [*COMMAND, *arguments("demo.fa")],
            cwd=folder,
            env=environment(**{name: value}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def alive(self) -> list[int]:
        """Ids of the process and of all that descend from it, whatever group they moved to."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in environ.read_bytes():
                    found.append(int(environ.parent.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def wait_for(self, reached: Callable[[], bool]) -> None:
        while not reached():
            assert self.process.poll() is None, "ended before it was stopped"
            time.sleep(0.002)

    def end(self) -> tuple[int, str]:
        """Exit code and output."""
        output, _ = self.process.communicate()
        return self.process.returncode, output


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_interrupted_killed_and_called_again_it_gives_the_same_bytes(called, tmp_path):
    (tmp_path / "demo.fa").write_bytes((called.folder / "demo.fa").read_bytes())
    out, random = tmp_path / "out", Random(29)

    def finished() -> dict[str, tuple[int, int]]:
        shards = "samples/demo/embeddings/*/shard-*"
        return stamps(out, f"{shards}.h5", f"{shards}.blocks/block-*.h5")

    run = Run(tmp_path)
    wanted = random.randint(1, 7)
    run.wait_for(lambda: len(finished()) >= wanted)
    time.sleep(random.uniform(0, 0.1))
    os.killpg(run.process.pid, signal.SIGINT)
    code, output = run.end()
    assert code == 130
    assert output.splitlines()[-1].startswith("error: interrupted; what is finished is kept")
    assert "Traceback" not in output
    assert run.alive() == []
    interrupted = finished()

    run = Run(tmp_path)
    wanted = random.randint(9, 15)
    run.wait_for(lambda: len(finished()) >= wanted)
    time.sleep(random.uniform(0, 0.1))
    while pids := run.alive():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        run.process.poll()
    code, output = run.end()
    assert code == -signal.SIGKILL
    assert blocks_done_before(output)[0] == len(interrupted)
    killed = finished()
    assert kept(interrupted, killed)

    run = Run(tmp_path)
    code, output = run.end()
    assert code == 0
    assert sum(blocks_done_before(output)) == len(killed)
    assert kept(killed, finished())
    expected = contents(called.out / "predictions" / "demo")
    assert contents(out / "predictions" / "demo") == expected


def blocks_done_before(output: str) -> list[int]:
    """Of each encoder, the blocks that an earlier call had finished."""
    return [int(number) for number in re.findall(r"(\d+) of 8 blocks done before", output)]


def kept(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> bool:
    """Whether no shard file was written again; block files may be gone into their shard."""
    return all(after[path] == stamp for path, stamp in before.items() if ".blocks" not in path)
