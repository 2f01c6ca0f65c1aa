"""Jobs for a Ray cluster as far as no cluster is needed: settings, names of devices, Pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from typing import ClassVar

import pytest

from virnuc_assets.errors import RunnerError, SettingsError
from virnuc_assets.runner import worker
from virnuc_assets.runner.events import ShardDone, from_line
from virnuc_assets.runner.identity import Digests
from virnuc_assets.runner.job import RayCluster, read_jobs, write_jobs
from virnuc_assets.runner.logs import Logs
from virnuc_assets.settings import from_environment


def on_ray(job, *devices, workers=3):
    encoding = replace(job.encoding, devices=devices, ray=RayCluster("head:6379", workers))
    return replace(job, encoding=encoding)


def test_the_launcher_is_a_setting():
    assert from_environment({}).models.encoding("esm2").ray is None
    set_so = {
        "VIRNUC_LAUNCHER": "ray",
        "VIRNUC_RAY_ADDRESS": "head:6379",
        "VIRNUC_RAY_WORKERS": "4",
    }
    assert from_environment(set_so).models.encoding("esm2").ray == RayCluster("head:6379", 4)
    assert from_environment({"VIRNUC_LAUNCHER": "ray"}).models.ray == RayCluster("auto", 8)
    with pytest.raises(SettingsError, match="VIRNUC_LAUNCHER=slurm: is not a launcher; use one of"):
        from_environment({"VIRNUC_LAUNCHER": "slurm"})


def test_a_job_survives_its_file(make_job, tmp_path):
    write_jobs(tmp_path / "jobs.json", [on_ray(make_job())])
    assert read_jobs(tmp_path / "jobs.json") == [on_ray(make_job())]


def test_a_cluster_has_gpus_unless_cpus_are_asked_for(make_job):
    gpus, cpus = on_ray(make_job()).resolved(), on_ray(make_job(), "cpu").resolved()
    assert gpus.encoding.devices == ("ray/gpu/0", "ray/gpu/1", "ray/gpu/2")
    assert cpus.encoding.devices == ("ray/cpu/0", "ray/cpu/1", "ray/cpu/2")
    assert (gpus.encoding.dtype, cpus.encoding.dtype) == ("float16", "float32")
    assert cpus.block_letters < gpus.block_letters
    with pytest.raises(RunnerError, match="0, 2: a Ray cluster chooses its GPUs itself"):
        on_ray(make_job(), "0", "2").resolved()


def by_pipes(job):
    """The runner, started as Dagster starts it: context and messages in environment variables."""
    from dagster_pipes import encode_param

    context = {
        "asset_keys": None,
        "code_version_by_asset_key": None,
        "provenance_by_asset_key": None,
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "run",
        "job_name": None,
        "retry_number": 0,
        "extras": {"job": job},
    }
    return subprocess.run(
        [sys.executable, "-m", "virnuc_assets.runner", "--pipes", "--log-level", "ERROR"],
        env={
            **os.environ,
            "DAGSTER_PIPES_CONTEXT": encode_param({"data": context}),
            "DAGSTER_PIPES_MESSAGES": encode_param({"stdio": "stdout"}),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_runner_takes_a_job_from_pipes_and_tells_it_the_events(make_job, tmp_path):
    done = by_pipes(asdict(make_job()))
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [messages[0]["method"], messages[-1]["method"]] == ["opened", "closed"]
    events = [from_line(message["params"]["payload"]) for message in messages[1:-1]]
    assert {event.shard for event in events if isinstance(event, ShardDone)} == {0, 1}


def test_without_ray_it_is_said_what_to_install(make_job, tmp_path):
    job = tmp_path / "job.json"
    write_jobs(job, [on_ray(make_job(), "cpu")])
    hidden = tmp_path / "ray.py"
    hidden.write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "virnuc_assets.runner", str(job)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    failed = from_line(done.stdout.splitlines()[-1])
    assert failed.explained
    assert "install virnuc_assets[ray], or set VIRNUC_LAUNCHER=local" in failed.message


def test_a_job_of_another_version_by_pipes_is_told_as_a_failure():
    done = by_pipes({"encoding": {"devices": [], "of_another_version": 1}})
    assert done.returncode == 1
    assert "is not a job of this version" in done.stdout


def test_a_worker_refuses_weights_that_are_not_those_of_the_run(make_job):
    """On a cluster another machine may hold another file under the name."""

    class Link:
        said: ClassVar[list] = []

        def send(self, message):
            self.said.append(message)

    job = on_ray(make_job(), "cpu").resolved()
    worker.work(Link(), "cpu", job, Digests("the run's", "the run's"), Logs(30, None))
    (broke,) = Link.said
    assert broke.explained
    assert "is not the model that the run began with" in broke.message
    assert job.encoding.weights in broke.message
