"""A Ray cluster of several nodes on this machine, each with one CPU and a GPU that is not there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_assets.runner.events import from_line
from virnuc_assets.runner.job import RayCluster, write_jobs
from virnuc_assets_tests.faults.jobs import contents, make_job
from virnuc_assets_tests.ray_cluster import slowly

REPOSITORY = Path(__file__).parents[2]
SMALL = {"object_store_memory": 80 * 2**20}
GIVE_UP_SECONDS = 120
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A node that is gone is noticed in seconds.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


def until(what, holds):
    for _ in range(GIVE_UP_SECONDS * 10):
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"never happened: {what}")


@contextmanager
def ray_folder():
    """A folder for a cluster's sessions and journals; at the end none of its processes is left."""
    # Short, for the names of sockets in it are.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    # Ray notes the address of the newest cluster there, and makes no such folder.
    (folder / "ray").mkdir()
    (folder / "journals").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv(slowly.JOURNALS, str(folder / "journals"))
        try:
            yield folder
        finally:
            for process in processes_in(folder):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            until("Ray's processes are gone", lambda: not processes_in(folder))
            shutil.rmtree(folder, ignore_errors=True)


def asked(address, question):
    """What the cluster at `address` says; `question` is a number, in Python."""
    asking = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR'); "
    answer = subprocess.run(
        # Ray may print something of its own.
        [sys.executable, "-c", f"{asking}print('is', {question})", address],
        capture_output=True,
        text=True,
        check=True,
    )
    (said,) = re.findall(r"^is (\S+)$", answer.stdout, re.MULTILINE)
    return float(said)


class Nodes:
    """A head without devices, and nodes that come and go."""

    def __init__(self, folder, head):
        from ray.cluster_utils import Cluster

        self.journals = folder / "journals"
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "temp_dir": str(folder), **SMALL, **head},
        )
        self.address = self.cluster.address

    def add(self):
        return self.cluster.add_node(num_cpus=1, num_gpus=1, **SMALL)

    def remove(self, node):
        self.cluster.remove_node(node, allow_graceful=False)

    def free(self):
        """CPUs that no actor holds, as the cluster says."""
        return asked(self.address, "ray.available_resources().get('CPU', 0)")

    def stop(self):
        with suppress(Exception):
            import ray

            ray.shutdown()
        self.cluster.shutdown()


@contextmanager
def nodes_of(count, takes_jobs=False):
    """A head and so many nodes; with `takes_jobs` there is a dashboard."""
    dashboard = {"include_dashboard": takes_jobs, **({"dashboard_port": 0} if takes_jobs else {})}
    with ray_folder() as folder:
        nodes = Nodes(folder, dashboard)
        try:
            for _ in range(count):
                nodes.add()
            yield nodes
        finally:
            nodes.stop()


def raylet_of(node):
    return node.all_processes["raylet"][0].process.pid


def processes_in(folder):
    """Processes whose command line names `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z" and str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def nodes():
    """A head and three nodes."""
    with nodes_of(3) as nodes:
        yield nodes


class Run:
    """The runner in a process of its own, with workers that take their time."""

    def __init__(self, folder, job, environ=None):
        folder.mkdir(parents=True, exist_ok=True)
        write_jobs(folder / "job.json", [job])
        self.log = folder / "log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "virnuc_assets_tests.ray_cluster.program"),
                    *(str(folder / "job.json"), "--watch-stdin", "--logs", str(folder / "logs")),
                ],
                cwd=REPOSITORY,
                # As Ray has it for a worker of one CPU: sums are added up in one order.
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.said = []

    def follow(self, enough=lambda said: False):
        """Note events until they are enough or there are no more."""
        for line in self.process.stdout:
            self.said.append(from_line(line))
            if enough(self.said):
                break
        return self.said

    def wait(self):
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        return code


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """A job, and the files that the local pool leaves."""
    folder = tmp_path_factory.mktemp("local")
    job = make_job(folder, "esm2", 360, seed=0)
    run = Run(folder, job, {slowly.JOURNALS: str(folder)})
    run.follow()
    assert run.wait() == 0, run.log.read_text()
    return job, contents(job)


@pytest.fixture
def on_ray(local, nodes, tmp_path):
    """The same job on the cluster, with an output of its own."""
    shutil.rmtree(nodes.journals)
    nodes.journals.mkdir()

    def on_ray(workers=3):
        job, _ = local
        encoding = replace(job.encoding, ray=RayCluster(nodes.address, workers))
        return replace(job, encoding=encoding, output=str(tmp_path / "output"))

    return on_ray
