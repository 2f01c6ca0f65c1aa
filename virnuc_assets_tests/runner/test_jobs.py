"""Several jobs in one process of the runner: real processes, real encoders, files on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner import client
from virnuc_assets.runner.events import BlockDone, Failed, JobBegins, ShardDone, Started, from_line
from virnuc_assets.runner.job import write_jobs
from virnuc_assets.runner.telemetry import RECORD_FILE
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.embeddings import shard_path
from virnuc_assets.store.sequence_table import write_sequence_table
from virnuc_assets_tests import untrained
from virnuc_assets_tests.runner.test_runner import group_is_gone, shard_bytes


def run(jobs):
    return list(client.stream_all(jobs))


def of_kind(events, kind):
    """(number of the job, event) of those of a kind."""
    return [(number, event) for number, event in events if isinstance(event, kind)]


def done_shards(events):
    return sorted((number, event.shard) for number, event in of_kind(events, ShardDone))


def log(job):
    path = Path(job.output) / "logs" / "worker-cpu.log"
    return path.read_text() if path.exists() else ""


def loads(*jobs):
    """How often an encoder was loaded for `jobs`, by the workers' own account."""
    return sum(log(job).count("loaded EncoderDescription") for job in jobs)


def alone(job, output):
    """What a run of this job and no other leaves, byte by byte."""
    there = replace(job, output=output)
    list(client.stream(there))
    return shard_bytes(there)


@pytest.fixture
def dna_job(make_job, tmp_path):
    """A job of the other encoder over `n` random sequences of mixed lengths."""

    def make(n, output, **changes):
        generator = np.random.default_rng(n)
        lengths = np.sort(generator.integers(1, 600, n))[::-1]
        table = tmp_path / f"dna-{n}.arrow"
        texts = ["".join(generator.choice(list("ACGT"), length)) for length in lengths]
        write_sequence_table(table, [pa.array(texts, pa.large_string())])
        job = make_job(output=output, **changes)
        weights = str(untrained.folder() / "dnabert_s")
        return replace(
            job,
            encoding=replace(job.encoding, encoder="dnabert-s", weights=weights),
            sequences=str(table),
            sequences_sha256=sha256_file(table),
        )

    return make


@pytest.mark.slow
def test_an_encoder_is_loaded_once_and_a_job_that_fails_keeps_no_other_from_being_done(
    make_job, tmp_path
):
    one, two = make_job(n=60, output="one"), make_job(n=37, longest=300, n_shards=3, output="two")
    no_backend = replace(one.encoding, attention="flash-attn")
    jobs = [
        replace(one, output=str(tmp_path / "digest"), sequences_sha256="0" * 64),
        one,
        replace(one, output=str(tmp_path / "gone"), sequences=one.sequences + ".gone"),
        two,
        replace(one, output=str(tmp_path / "no"), encoding=no_backend),
        replace(one, output=str(tmp_path / "neither"), encoding=no_backend),
    ]
    events = run(jobs)
    assert done_shards(events) == [(1, 0), (1, 1), (3, 0), (3, 1), (3, 2)]
    assert shard_bytes(two) == alone(two, str(tmp_path / "alone"))
    assert [number for number, _ in of_kind(events, Started)] == [1, 3, 4, 5]
    assert [loads(job) for job in (one, two)] == [1, 0]
    assert "job 2 of this worker, with the encoder it has loaded" in log(two)
    assert all((Path(job.output) / RECORD_FILE).exists() for job in (one, two))

    failed = {number: event.message for number, event in of_kind(events, Failed)}
    says = {0: "SHA-256 differs", 2: "no such sequence table", 4: "flash-attn", 5: "flash-attn"}
    assert failed.keys() == says.keys()
    assert all(says[number] in failed[number] for number in says)
    assert "flash-attn" in (tmp_path / "no" / RECORD_FILE).read_text()
    assert not (tmp_path / "neither" / "logs").exists(), "a worker was started to fail once more"


@pytest.mark.platform
@pytest.mark.parametrize("seed", range(2))
def test_jobs_of_random_sizes_for_both_encoders_end_as_if_alone(make_job, dna_job, seed):
    random = np.random.default_rng(seed)
    jobs = []
    for number in range(6):
        n, shards = (int(random.integers(1, most)) for most in (150, 5))
        options = {"n_shards": shards, "block_sequences": int(random.integers(1, 30))}
        if random.random() < 0.5:
            jobs.append(dna_job(n, f"{number}", **options))
        else:
            longest = int(random.integers(2, 900))
            jobs.append(make_job(n=n, longest=longest, output=f"{number}", **options))
    events = run(jobs)
    assert done_shards(events) == [(n, s) for n, job in enumerate(jobs) for s in job.shards]
    changes = sum(one.encoding != two.encoding for one, two in pairwise(jobs))
    assert loads(*jobs) == 1 + changes
    for job in jobs:
        assert shard_bytes(job) == alone(job, f"{job.output}-alone")


@pytest.fixture
def three(make_job):
    """Jobs of which the second takes a while."""
    return [
        make_job(n=20, output="one"),
        make_job(n=150, longest=200, output="two"),
        make_job(n=30, output="three"),
    ]


def children(pid):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            found += [int(process.name)] * (int(parent) == pid)
    return found


def kill_workers_of(pid):
    for child in children(pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)


def runners():
    """Process ids of runners that this process started."""
    for child in children(os.getpid()):
        with suppress(OSError):
            if b"virnuc_assets.runner" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield child


def disturbed(jobs, do):
    """The events of a run, with `do(pid)` after two blocks of its second job."""
    events = []
    for number, event in client.stream_all(jobs):
        events.append((number, event))
        if len([n for n, e in of_kind(events, BlockDone) if n == 1]) == 2 and do:
            (runner,) = runners()
            do(runner)
            do = None
    return events


def test_an_end_between_two_jobs_is_put_down_to_the_first_of_which_not_all_is_known(
    make_job, monkeypatch
):
    given = []

    def run_one_and_end(jobs, accounts):
        given.append([job.output for job in jobs])
        for shard in jobs[0].shards:
            yield 0, accounts[0].note(ShardDone(shard, "", reused=True))
        if len(jobs) > 1:
            raise RunnerError("ended from outside")

    monkeypatch.setattr(client, "_run", run_one_and_end)
    jobs = [make_job(output=name) for name in ("one", "two", "three")]
    events = run(jobs)
    assert of_kind(events, Failed) == [(1, Failed("ended from outside"))]
    assert done_shards(events) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert given == [[job.output for job in jobs], [jobs[2].output]]


@pytest.mark.platform
def test_a_worker_killed_in_the_second_job_is_replaced(three):
    events = disturbed(three, kill_workers_of)
    assert of_kind(events, Failed) == []
    assert done_shards(events) == [(n, s) for n in range(3) for s in range(2)]
    assert [loads(job) for job in three] == [1, 1, 0]
    assert shard_bytes(three[1]) == alone(three[1], f"{three[1].output}-alone")


@pytest.mark.platform
def test_a_job_in_which_the_process_is_killed_fails_and_the_next_goes_on_in_another(three):
    events = disturbed(three, lambda runner: os.kill(runner, signal.SIGKILL))
    ((number, failed),) = of_kind(events, Failed)
    assert number == 1
    assert "ended from outside" in failed.message
    assert {n for n, _ in done_shards(events)} >= {0, 2}
    again = run(three)
    assert done_shards(again) == [(n, s) for n in range(3) for s in range(2)]
    assert {number for number, _ in of_kind(again, BlockDone)} == {1}
    assert shard_bytes(three[1]) == alone(three[1], f"{three[1].output}-alone")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda process: process.terminate(), 128 + signal.SIGTERM),
        (lambda process: process.stdin.close(), 128 + signal.SIGTERM),
        (lambda process: process.kill(), -signal.SIGKILL),
        (lambda process: os.killpg(process.pid, signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["SIGTERM", "parent gone", "SIGKILL", "group SIGKILL"],
)
@pytest.mark.platform
def test_what_is_interrupted_in_its_second_job_goes_on_there(three, tmp_path, how, code):
    write_jobs(tmp_path / "jobs.json", three)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "virnuc_assets.runner", str(tmp_path / "jobs.json")),
            "--watch-stdin",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    job = blocks = 0
    for line in process.stdout:
        event = from_line(line)
        if isinstance(event, JobBegins):
            job = event.job
        blocks += job == 1 and isinstance(event, BlockDone)
        if blocks == 2:
            break
    how(process)
    process.stdout.read()
    assert process.wait() == code
    assert group_is_gone(process.pid)
    for pipe in (process.stdin, process.stdout):
        pipe.close()
    done = [shard_path(Path(three[n].output), s, 2).exists() for n in (0, 2) for s in range(2)]
    assert done == [True, True, False, False]
    before = shard_bytes(three[0])

    events = run(three)
    assert shard_bytes(three[0]) == before
    assert all(event.reused for number, event in of_kind(events, ShardDone) if number == 0)
    (started,) = [event for number, event in of_kind(events, Started) if number == 1]
    assert started.blocks_done >= 2
    redone = [number for number, _ in of_kind(events, BlockDone)]
    assert redone.count(1) == started.blocks - started.blocks_done
    assert redone.count(0) == 0
    assert done_shards(events) == [(n, s) for n in range(3) for s in range(2)]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.platform
def test_who_stops_listening_in_the_second_job_leaves_no_process(three):
    for number, event in client.stream_all(three):
        if number == 1 and isinstance(event, Started):
            (runner,) = runners()
            break
    for _ in range(200):
        if not list(runners()):
            break
        time.sleep(0.05)
    assert group_is_gone(runner)
