"""The embedding asset with `launcher: ray`: a Ray job, followed by the op through Dagster Pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.job import RayCluster
from virnuc_assets_tests.dagster.deployment import Deployment, metadata
from virnuc_assets_tests.dagster.test_ended_runs import many_open_frames
from virnuc_assets_tests.faults.jobs import make_job
from virnuc_assets_tests.ray_cluster.conftest import REPOSITORY, nodes_of, until

pytestmark = [pytest.mark.platform, pytest.mark.slow]

DAGSTER = Path(sys.executable).with_name("dagster")
FASTA = ">first\n" + "ATGGCTAAAGGTGCTGCTCGTAAACGTGCTGGT" * 4 + "\n>second\n" + "GCTCGTGGTAAA" * 20


@pytest.fixture(scope="module")
def nodes():
    """A head that takes jobs, and two nodes."""
    with nodes_of(2, takes_jobs=True) as nodes:
        yield nodes


@pytest.fixture
def deployment(tmp_path, nodes):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        deployment = Deployment(tmp_path, instance)
        here = replace(deployment.models, gpus=("cpu",))
        deployment.configure(
            replace(here, launcher="ray", ray_address=nodes.address, ray_workers=2)
        )
        yield deployment


def jobs(nodes):
    """Every job the cluster has had: its id and status."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(nodes.address)
    return {job.submission_id: str(job.status) for job in client.list_jobs() if job.submission_id}


def test_a_run_is_as_with_the_local_launcher(deployment, nodes):
    deployment.add("sample", FASTA)
    assert deployment.index("sample").success
    result = deployment.embed("sample", 0, 1, ["esm2_embeddings"])
    assert result.success
    made = metadata(result, "esm2_embeddings")
    assert set(made) == {"sample|0", "sample|1"}
    assert all(facts["reused"] is False and facts["rows"] > 0 for facts in made.values())
    assert all("/logs" in facts["logs"] for facts in made.values())
    kinds = [event.event_type_value for event in result.all_events]
    assert kinds.count("ASSET_OBSERVATION") == 2
    told = [record.user_message for record in deployment.instance.all_logs(result.run_id)]
    assert any("sequences in" in text and "ray/cpu/0, ray/cpu/1" in text for text in told)
    assert any("tokens/s" in text for text in told)
    assert any(text.startswith("sample: shard 1 done") for text in told)
    again = metadata(deployment.embed("sample", 0, 1, ["esm2_embeddings"]), "esm2_embeddings")
    assert all(facts["reused"] is True for facts in again.values())
    assert all(status == "SUCCEEDED" for status in jobs(nodes).values())
    assert until("the cluster is idle", lambda: nodes.free() == 2)


def test_a_run_that_cannot_start_says_why(deployment, nodes):
    deployment.add("sample", FASTA)
    assert deployment.index("sample").success
    (table,) = deployment.layout.index("sample").glob("proteins.arrow")
    table.write_bytes(b"damaged")
    result = deployment.embed("sample", 0, 1, ["esm2_embeddings"])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "proteins.arrow" in failure.step_failure_data.user_failure_data.description


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_one_sentence(address, tmp_path):
    from virnuc_assets import ray_job

    job = make_job(tmp_path, "esm2", 36, seed=0)
    job = replace(job, encoding=replace(job.encoding, ray=RayCluster(address)))
    with pytest.raises(RunnerError, match=f"VIRNUC_RAY_ADDRESS={address}: no Ray cluster takes"):
        next(ray_job.stream(None, job))


def test_a_cancelled_run_ends_its_job_and_frees_its_devices(tmp_path, nodes):
    environ = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "VIRNUC_STORE": str(tmp_path / "store"),
        "VIRNUC_SHARDS": "2",
        "VIRNUC_GPUS": "cpu",
        "VIRNUC_LAUNCHER": "ray",
        "VIRNUC_RAY_ADDRESS": f"http://{nodes.cluster.head_node.address_info['webui_url']}",
        "VIRNUC_RAY_WORKERS": "2",
    }
    (tmp_path / "dagster.yaml").touch()
    fasta = tmp_path / "long.fa"
    fasta.write_text(many_open_frames())

    def virnuc(*arguments):
        program = Path(sys.executable).with_name("virnuc")
        subprocess.run([program, *arguments], env=environ, cwd=REPOSITORY, check=True)

    def materialise(asset, tags):
        return [
            *(DAGSTER, "asset", "materialize", "-m", "virnuc_assets.definitions"),
            *("--select", asset, *tags),
        ]

    virnuc("samples", "add", str(fasta))
    subprocess.run(
        materialise("sequence_index", ["--partition", "long"]),
        env=environ, cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    before = set(jobs(nodes))  # the index's among them
    log = tmp_path / "log"
    with log.open("w") as told:
        run = subprocess.Popen(
            materialise("esm2_embeddings", ["--partition-range", "long|0...long|1"]),
            env=environ, cwd=REPOSITORY, stdout=told, stderr=told,
        )  # fmt: skip
    blocks = tmp_path / "store" / "samples" / "long"
    until("it is under way", lambda: run.poll() is not None or list(blocks.rglob("block-*.h5")))
    assert run.poll() is None, log.read_text()
    assert nodes.free() == 0
    run.send_signal(signal.SIGINT)
    assert run.wait() != 0
    (name,) = set(jobs(nodes)) - before
    assert jobs(nodes)[name] == "STOPPED"
    until("the cluster is idle", lambda: nodes.free() == 2)
    assert not list(blocks.rglob("*.tmp"))
