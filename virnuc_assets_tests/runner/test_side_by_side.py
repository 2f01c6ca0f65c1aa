"""Shards of one sample, made by several runs at once: each a process of its own, as pods are."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_assets.runner import client
from virnuc_assets.runner.events import ShardDone, Started, Warned, from_line
from virnuc_assets.runner.job import write_jobs
from virnuc_assets.store.embeddings import blocks_directory, shard_path
from virnuc_assets.store.view import VIEW_FILE

pytestmark = [pytest.mark.platform, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
SHARDS = 3


class Run:
    """A run that has told of its start; its workers wait until the gate is there."""

    def __init__(self, job, folder, gate):
        write_jobs(folder / "jobs.json", [job])
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "virnuc_assets_tests.runner.gated"),
                *(str(folder / "jobs.json"), "--log-level", "WARNING", "--logs", "logs"),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "GATE": str(gate)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said = []

    def follow(self, kind=None):
        for line in self.process.stdout:
            self.said.append(from_line(line))
            if kind is not None and isinstance(self.said[-1], kind):
                break
        return self

    def end(self):
        self.follow()
        self.process.stdout.close()
        assert self.process.wait() == 0, self.said
        return self.said

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def job(make_job):
    return make_job(n_shards=SHARDS, output="together")


@pytest.fixture
def alone(job, make_job):
    """What one run of all shards leaves."""
    alone = replace(job, output=make_job(output="alone").output)
    list(client.stream(alone))
    return files(alone)


@pytest.fixture
def begin(job, tmp_path):
    """Start a run of some shards; the gate opens by `begin.open()`."""
    gate, runs = tmp_path / "gate", []

    def begin(*shards):
        folder = tmp_path / f"run-{len(runs)}"
        folder.mkdir()
        runs.append(Run(replace(job, shards=shards), folder, gate))
        return runs[-1]

    begin.open = gate.touch
    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.kill()


def files(job):
    return {path.name: path.read_bytes() for path in Path(job.output).glob("*.h5")}


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_runs_of_different_shards_go_on_at_once_and_leave_what_one_leaves(job, alone, begin):
    runs = [begin(shard).follow(Started) for shard in range(SHARDS)]
    begin.open()
    for shard, run in enumerate(runs):
        said = run.end()
        assert of_kind(said, Warned) == []
        assert [event.shard for event in of_kind(said, ShardDone)] == [shard]
    assert files(job) == alone
    folder = Path(job.output)
    for shard in range(SHARDS):
        record = json.loads((folder / f"run-{shard:02d}-of-03.json").read_text())
        assert (record["job"]["shards"], record["end"]) == ([shard], "all shards done")
        assert (folder / f"logs-{shard:02d}-of-03" / "worker-cpu.log").is_file()


def test_a_shard_in_common_is_waited_for_and_not_made_twice(job, alone, begin):
    first = begin(1).follow(Started)
    second = begin(0, 1, 2).follow(Warned)
    assert second.said[-1].message.startswith(
        f"{shard_path(Path(job.output), 1, SHARDS)}: another run is making this shard; waiting"
    )
    begin.open()
    first.end()
    reused = {event.shard: event.reused for event in of_kind(second.end(), ShardDone)}
    assert reused == {0: False, 1: True, 2: False}
    assert files(job) == alone


def test_a_run_that_is_killed_leaves_the_others_alone(job, alone, begin):
    killed, other = begin(0).follow(Started), begin(1, 2).follow(Started)
    folder = Path(job.output)
    of_other = blocks_directory(folder, 1, SHARDS)
    of_other.mkdir()
    under_way = [
        of_other / ".block.h5.host.1.tmp",
        folder / f".{shard_path(folder, 1, 3).name}.host.1.tmp",
    ]
    for path in under_way:
        path.touch()
    killed.kill()
    again = begin(0).follow(Started)
    assert all(path.exists() for path in under_way)
    begin.open()
    other.end()
    again.end()
    assert files(job) == alone
    assert not list(folder.rglob("*.tmp"))
    assert (folder / VIEW_FILE).exists()
