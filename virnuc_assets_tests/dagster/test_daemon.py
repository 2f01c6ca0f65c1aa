"""The platform as it is run: `dagster dev`'s webserver and daemon, a store and an inbox.

Three ways to take samples from FASTA to report: dropped into the inbox, launched as the UI does,
and by `dagster job backfill`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from random import Random

import polars as pl
import pytest

from virnuc_assets.settings import DEMO_DATA
from virnuc_assets.store.layout import Layout
from virnuc_assets_tests.dagster.deployment import FASTA

pytestmark = pytest.mark.slow

DAGSTER = Path(sys.executable).with_name("dagster")
VIRNUC = Path(sys.executable).with_name("virnuc")
REPOSITORY = Path(__file__).parents[2]
GIVE_UP_SECONDS = 240
ASSETS = [
    "sequence_index",
    "esm2_embeddings",
    "dnabert_s_embeddings",
    "predictions",
    "sample_report",
]
LAUNCH = """
mutation($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename
    ... on PythonError { message }
  }
}"""
SENSORS = """
query($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) {
    ... on Sensors { results { id name } }
  }
}"""
RUNS = """
{ runsOrError { ... on Runs { results {
  status jobName tags { key value } assetSelection { path }
} } } }"""


class Platform:
    def __init__(self, home):
        self.home = home
        self.layout = Layout(home / "data")
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("VIRNUC_")},
            "DAGSTER_HOME": str(home),
            "VIRNUC_SHARDS": "2",
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self):
        shutil.copy(REPOSITORY / "dagster.yaml", self.home)
        shutil.copy(REPOSITORY / "workspace.yaml", self.home)
        (self.home / "data").mkdir()
        self.log = (self.home / "dev.log").open("w")
        self.process = subprocess.Popen(
            [DAGSTER, "dev", "--host", "127.0.0.1", "--port", str(self.port)],
            cwd=self.home,
            env=self.environ,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.until("the webserver answers", self._answers)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def run(self, *command):
        done = subprocess.run(
            command, cwd=self.home, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def query(self, text, **variables):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": text, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            value = json.load(answer)
        assert "errors" not in value, value
        return value["data"]

    def runs(self):
        return self.query(RUNS)["runsOrError"]["results"]

    def stop_sensor(self, name):
        repository = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "virnuc_assets",
        }
        sensors = self.query(SENSORS, repository=repository)["sensorsOrError"]["results"]
        (sensor,) = [sensor["id"] for sensor in sensors if sensor["name"] == name]
        self.query("mutation($id: String!) { stopSensor(id: $id) { __typename } }", id=sensor)

    def until(self, what, condition):
        for _ in range(2 * GIVE_UP_SECONDS):
            if condition():
                return
            time.sleep(0.5)
        pytest.fail(f"never happened: {what}\n{(self.home / 'dev.log').read_text()[-5000:]}")

    def all_runs_succeeded(self):
        statuses = {run["status"] for run in self.runs()}
        assert "FAILURE" not in statuses, (self.home / "dev.log").read_text()[-5000:]
        return statuses == {"SUCCESS"}

    def has_report(self, sample):
        return (self.layout.report(sample) / "report.html").exists()

    def _answers(self):
        try:
            return bool(self.query("{ version }"))
        except (urllib.error.URLError, ConnectionError):
            return False


def two_thousand_records():
    """1 980 reads of 150 bases and 20 contigs of 2 000, from the demo sample's genome."""
    (genome,) = (
        record.split("\n", 1)[1].replace("\n", "")
        for record in (DEMO_DATA / "demo.fa").read_text().split(">")
        if record.startswith("NC_001416.1 ")
    )
    random = Random(2000)
    lengths = [150] * 1980 + [2000] * 20
    starts = [random.randrange(len(genome) - length) for length in lengths]
    return "".join(
        f">r{i}\n{genome[start : start + length]}\n"
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True))
    )


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    platform = Platform(tmp_path_factory.mktemp("platform"))
    platform.start()
    yield platform
    platform.stop()


def test_a_file_in_the_inbox_ends_in_a_report_without_a_hand_on_it(platform):
    platform.layout.inbox.mkdir(exist_ok=True)
    (platform.layout.inbox / "arrived.fa").write_text(two_thousand_records())
    platform.until("a report on the arrival", lambda: platform.has_report("arrived"))
    platform.until("all runs end", platform.all_runs_succeeded)
    records = pl.read_parquet(platform.layout.predictions("arrived") / "records.parquet")
    assert len(records) == 2000
    embeddings = [run for run in platform.runs() if len(run["assetSelection"] or []) == 2]
    shards = {"dagster/asset_partition_range_start", "dagster/asset_partition_range_end"}
    assert any(shards <= {tag["key"] for tag in run["tags"]} for run in embeddings)


def test_the_ui_materialises_a_whole_sample(platform):
    """What the UI sends for "Materialize all", sample `by_hand`, "Launch backfill"."""
    platform.stop_sensor("automation")
    fasta = platform.home / "by_hand.fa"
    fasta.write_text(FASTA)
    platform.run(VIRNUC, "samples", "add", fasta)
    parameters = {
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
        "partitionNames": ["by_hand"],
        "tags": [{"key": "dagster/from_ui", "value": "true"}],
        "fromFailure": False,
    }
    answer = platform.query(LAUNCH, parameters=parameters)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    platform.until("a report on the sample", lambda: platform.has_report("by_hand"))
    platform.until("all runs end", platform.all_runs_succeeded)


def test_job_backfills_take_several_samples(platform):
    platform.stop_sensor("automation")
    names = ["one", "two", "three"]
    for name in names:
        fasta = platform.home / f"{name}.fa"
        fasta.write_text(FASTA)
        platform.run(VIRNUC, "samples", "add", fasta)
    shards = [f"{name}|{shard}" for name in names for shard in range(2)]
    for job, partitions in (
        ("index_samples", names),
        ("embed_samples", shards),
        ("predict_samples", names),
    ):
        wanted = len(platform.runs()) + len(partitions)
        platform.run(
            DAGSTER, "job", "backfill", "--noprompt", "--job", job,
            "--partitions", ",".join(partitions),
        )  # fmt: skip
        platform.until(
            f"{job} is launched",
            lambda wanted=wanted: len(platform.runs()) >= wanted,
        )
        platform.until(f"{job} ends", platform.all_runs_succeeded)
    assert all(platform.has_report(name) for name in names)
