"""`dagster dev` as a person starts it: webserver, daemon and code server on a home of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from virnuc_assets.store.layout import Layout
from virnuc_assets_tests import untrained
from virnuc_assets_tests.dagster.deployment import FASTA

DAGSTER = Path(sys.executable).with_name("dagster")
VIRNUC = Path(sys.executable).with_name("virnuc")
REPOSITORY = Path(__file__).parents[2]
GIVE_UP_SECONDS = 240
CODE_LOCATION = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "virnuc_assets",
}
SENSORS = """
query($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) {
    ... on Sensors { results { id name } }
  }
}"""
RUNS = """
{ runsOrError { ... on Runs { results {
  runId status jobName tags { key value } assetSelection { path }
} } } }"""


class Platform:
    def __init__(self, home, dagster_yaml=None, module="virnuc_assets.definitions"):
        """`dagster_yaml` and `module` of the definitions: in place of the project's own."""
        self.home = home
        self.layout = Layout(home / "data")
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("VIRNUC_")},
            **untrained.settings(),
            "DAGSTER_HOME": str(home),
            "VIRNUC_SHARDS": "2",
            "PYTHONPATH": str(REPOSITORY),
        }
        # A deployment compiles its modules once, and not in every process.
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        yaml = dagster_yaml or (REPOSITORY / "dagster.yaml").read_text()
        (home / "dagster.yaml").write_text(yaml)
        workspace = (REPOSITORY / "workspace.yaml").read_text()
        (home / "workspace.yaml").write_text(workspace.replace("virnuc_assets.definitions", module))
        (home / "data").mkdir()

    def start(self):
        self.log = (self.home / "dev.log").open("a")
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
        self.kill()

    def kill_daemon(self):
        """Kill the daemon alone; `dagster dev` does not go on without it."""
        (daemon,) = [
            int(process.name)
            for process in self.processes()
            if b"dagster._daemon" in (process / "cmdline").read_bytes()
        ]
        os.kill(daemon, signal.SIGKILL)
        self.process.wait(60)
        self.log.close()

    def processes(self):
        """Every process whose environment says that it is of this platform, by /proc folder."""
        mark = f"DAGSTER_HOME={self.home}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    yield process

    def kill(self):
        """End every process of the platform at once; what a run has started itself lives on."""
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

    def unfinished_runs(self):
        ended = ("SUCCESS", "FAILURE", "CANCELED")
        return [run for run in self.runs() if run["status"] not in ended]

    def stop_sensor(self, name):
        """Switch off every sensor whose name begins with `name`."""
        sensors = self.query(SENSORS, repository=CODE_LOCATION)["sensorsOrError"]["results"]
        for sensor in [sensor["id"] for sensor in sensors if sensor["name"].startswith(name)]:
            self.query("mutation($id: String!) { stopSensor(id: $id) { __typename } }", id=sensor)

    def until(self, what, condition, seconds=GIVE_UP_SECONDS):
        for _ in range(2 * seconds):
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

    def backfill_by_jobs(self, names):
        """Take new samples through job after job, as `dagster job backfill` does; to reports."""
        self.stop_sensor("automation")
        for name in names:
            fasta = self.home / f"{name}.fa"
            fasta.write_text(FASTA)
            self.run(VIRNUC, "samples", "add", fasta)
        shards = [f"{name}|{shard}" for name in names for shard in range(2)]
        for job, partitions in (
            ("index_samples", names),
            ("embed_samples", shards),
            ("predict_samples", names),
        ):
            wanted = len(self.runs()) + len(partitions)
            self.run(
                DAGSTER, "job", "backfill", "--noprompt", "--job", job,
                "--partitions", ",".join(partitions),
            )  # fmt: skip
            self.until(f"{job} is launched", lambda wanted=wanted: len(self.runs()) >= wanted)
            self.until(f"{job} ends", self.all_runs_succeeded)
        assert all(self.has_report(name) for name in names)

    def _answers(self):
        try:
            return bool(self.query("{ version }"))
        except (urllib.error.URLError, ConnectionError):
            return False
