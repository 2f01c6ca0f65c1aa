"""Runs that are ended from outside leave no process, and the next gets the GPUs.

The embedding is long enough to be under way whenever a test looks.
"""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from virnuc_assets.partitions import RANGE_END, RANGE_START
from virnuc_assets_tests.dagster.platform import (
    CODE_LOCATION,
    DAGSTER,
    REPOSITORY,
    VIRNUC,
    Platform,
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LAUNCH = """
mutation($parameters: ExecutionParams!) {
  launchPipelineExecution(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
TERMINATE = """
mutation($id: String!) {
  terminateRun(runId: $id) {
    __typename
    ... on TerminateRunFailure { message }
  }
}"""
GO_ON = """
mutation($id: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $id, strategy: FROM_FAILURE}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
LOG = """
query($id: ID!) { runOrError(runId: $id) { ... on Run {
  eventConnection { events { ... on MessageEvent { message } } }
} } }"""
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
OPEN = [codon for codon in CODONS if codon not in ("TAA", "TAG", "TGA")]


def many_open_frames():
    """Records enough to be busy with for minutes, all different."""
    random = Random(0)
    return "".join(f">r{i}\n{''.join(random.choices(OPEN, k=166))}\n" for i in range(5_000))


def session(process):
    """Session id of a process, by its /proc folder."""
    return int((process / "stat").read_text().rsplit(")", 1)[1].split()[3])


class Runs:
    """Embedding runs of one long sample on a platform of their own."""

    def __init__(self, home):
        self.platform = Platform(home, quick(REPOSITORY / "dagster.yaml"))
        self.sessions = set()

    def start(self):
        self.platform.start()
        self.platform.stop_sensor("automation")

    def index(self):
        fasta = self.platform.home / "long.fa"
        fasta.write_text(many_open_frames())
        self.platform.run(VIRNUC, "samples", "add", fasta)
        self.platform.run(
            DAGSTER, "job", "backfill", "--noprompt", "--job", "index_samples",
            "--partitions", "long",
        )  # fmt: skip
        self.platform.until("the sample is indexed", self.platform.all_runs_succeeded)

    def launch(self, **tags):
        """Start embedding from nothing; returns the run's id once its workers have been started."""
        shutil.rmtree(self.platform.layout.embeddings("long", "esm2"), ignore_errors=True)
        self.sessions.clear()
        run = self.submit(**tags)
        self.platform.until("the embedding is under way", lambda: len(self.embedding()) >= 2)
        assert self.status(run) == "STARTED"
        return run

    def submit(self, **tags):
        """Queue a run that embeds; returns its id."""
        tags = {RANGE_START: "long|0", RANGE_END: "long|1", "dagster/max_retries": "0", **tags}
        parameters = {
            "selector": {
                **CODE_LOCATION,
                "pipelineName": "embed_samples",
                "assetSelection": [{"path": ["esm2_embeddings"]}],
            },
            "mode": "default",
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in tags.items()]
            },
        }
        answer = self.platform.query(LAUNCH, parameters=parameters)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def runner(self):
        """Process id of the runner, which leads a session of its own."""
        self.embedding()
        return max(self.sessions)

    def embedding(self):
        """Every process of an embedding: the runner and its workers, without it too."""
        found = []
        for process in self.platform.processes():
            with suppress(OSError):
                if b"virnuc_assets.runner" in (process / "cmdline").read_bytes():
                    self.sessions.add(session(process))
                if session(process) in self.sessions:
                    found.append(int(process.name))
        return found

    def log(self):
        return (self.platform.home / "dev.log").read_text()

    def status(self, run):
        (status,) = [r["status"] for r in self.platform.runs() if r["runId"] == run]
        return status

    def assert_ended(self, run, status):
        """Run `run` comes to `status`; then nothing of it is left."""
        self.platform.until(f"the run is {status}", lambda: self.status(run) == status)
        self.platform.until("its processes are gone", lambda: not self.embedding())


def quick(dagster_yaml):
    """The project's own dagster.yaml, with less patience."""
    text = dagster_yaml.read_text()
    assert "poll_interval_seconds: 30" in text
    return text.replace("poll_interval_seconds: 30", "poll_interval_seconds: 2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("platform"))
    runs.start()
    try:
        runs.index()
        yield runs
    finally:
        runs.platform.stop()


def test_terminated_in_the_ui(runs):
    run = runs.launch()
    answer = runs.platform.query(TERMINATE, id=run)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess", answer
    runs.assert_ended(run, "CANCELED")


def test_another_waits_in_the_queue_and_comes_next(runs):
    """A run that waits for the GPUs has no process."""
    first = runs.launch()
    second = runs.submit()
    runs.platform.until("the queue has seen it", lambda: f"Run {second} is blocked" in runs.log())
    assert runs.status(second) == "QUEUED"
    runs.platform.query(TERMINATE, id=first)
    runs.platform.until("the second is under way", lambda: runs.status(second) == "STARTED")
    assert runs.status(first) == "CANCELED"
    runs.platform.query(TERMINATE, id=second)
    runs.assert_ended(second, "CANCELED")


def test_longer_than_its_time(runs):
    run = runs.launch(**{"dagster/max_runtime": "5"})
    runs.assert_ended(run, "FAILURE")


def test_its_worker_is_killed(runs):
    run = runs.launch()
    worker = int(Path(f"/proc/{runs.runner()}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(worker, signal.SIGKILL)
    runs.assert_ended(run, "FAILURE")


def test_the_platform_is_stopped(runs):
    run = runs.launch()
    runs.platform.stop()
    runs.platform.until("its processes are gone", lambda: not runs.embedding())
    runs.start()
    runs.assert_ended(run, "FAILURE")


def test_the_daemon_is_killed_and_started_again(runs):
    """The run does not depend on it, and goes on; it can be ended as before."""
    run = runs.launch()
    runs.platform.kill_daemon()
    runs.start()
    assert runs.status(run) == "STARTED"
    assert runs.embedding()
    answer = runs.platform.query(TERMINATE, id=run)["terminateRun"]
    assert answer["__typename"] == "TerminateRunSuccess", answer
    runs.assert_ended(run, "CANCELED")


def test_everything_is_killed_at_once(runs):
    """Nobody is left to say that the run has ended: a sensor notices."""
    run = runs.launch()
    runs.platform.kill()
    runs.platform.until("its processes are gone", lambda: not runs.embedding())
    runs.start()
    runs.assert_ended(run, "FAILURE")


def test_what_was_ended_goes_on_where_it_stopped(runs):
    parent = runs.launch(**{RANGE_END: "long|0"})
    blocks = runs.platform.layout.embeddings("long", "esm2")
    runs.platform.until("a block is done", lambda: list(blocks.rglob("block-*.h5")))
    runs.platform.query(TERMINATE, id=parent)
    runs.assert_ended(parent, "CANCELED")
    done = len(list(blocks.rglob("block-*.h5")))
    answer = runs.platform.query(GO_ON, id=parent)["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run = answer["run"]["runId"]
    runs.assert_ended(run, "SUCCESS")
    events = runs.platform.query(LOG, id=run)["runOrError"]["eventConnection"]["events"]
    messages = [event.get("message", "") for event in events]
    assert any(f"{done} blocks are already done" in message for message in messages), messages
    assert [path.name for path in blocks.glob("shard-*")] == ["shard-00-of-02.h5"]
