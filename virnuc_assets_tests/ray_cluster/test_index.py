"""Indexing as tasks of a Ray cluster: the same files and sentences, and nothing left when ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from virnuc_assets.errors import InputError, RunnerError
from virnuc_assets.ray_index import HERE, indexing
from virnuc_assets.runner.job import RayCluster
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.ray_cluster.conftest import REPOSITORY, nodes_of, until

pytestmark = [pytest.mark.platform, pytest.mark.slow]

VIRNUC = Path(sys.executable).with_name("virnuc")
FASTA = ">first\n" + "ATGGCTAAAGGTGCTGCTCGTAAACGTGCTGGT" * 40 + "\n>second\n" + "GCTCGTGGTAAA" * 20
BROKEN = ">first\nATG\n>first\nATG\n"


@pytest.fixture(scope="module")
def nodes():
    """A head that takes jobs and has no CPU, and two nodes."""
    with nodes_of(2, takes_jobs=True) as nodes:
        yield nodes


@pytest.fixture(params=["from a machine of it", "from outside"])
def cluster(request, nodes):
    if request.param == "from outside":
        return RayCluster(outside(nodes))
    return RayCluster(nodes.address)


def outside(nodes):
    return f"http://{nodes.cluster.head_node.address_info['webui_url']}"


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def is_idle(nodes):
    return nodes.free() == 2


def test_an_index_is_bit_for_bit_that_of_this_machine(cluster, nodes, write, tmp_path):
    fastas = [write(f"{n}.fa", FASTA + f"\n>{n}\n" + "ATGGCC" * (n + 1)) for n in range(3)]
    with indexing(None) as begin:
        here = [begin(fasta, tmp_path / f"here-{fasta.stem}", 300)() for fasta in fastas]
    with indexing(cluster) as begin:
        waiting = [begin(fasta, tmp_path / f"there-{fasta.stem}", 300) for fasta in fastas]
        there = [wait() for wait in waiting]
    assert [one.manifest for one in there] == [one.manifest for one in here]
    assert HERE not in [one.where for one in there]
    for fasta in fastas:
        made = files(tmp_path / f"there-{fasta.stem}")
        assert made == files(tmp_path / f"here-{fasta.stem}")
    assert until("the cluster is idle", lambda: is_idle(nodes))


def test_a_file_that_cannot_be_used_is_the_same_sentence(cluster, write, tmp_path):
    broken, sound = write("broken.fa", BROKEN), write("sound.fa", FASTA)
    with indexing(None) as begin, pytest.raises(InputError) as here:
        begin(broken, tmp_path / "here", 300)()
    with indexing(cluster) as begin:
        first, second = (begin(f, tmp_path / f.stem, 300) for f in (broken, sound))
        with pytest.raises(InputError) as there:
            first()
        assert second().manifest.records == 2
    assert str(there.value) == str(here.value)


def test_what_is_not_waited_for_is_cancelled(cluster, nodes, tmp_path):
    fasta, folder = tmp_path / "never.fa", tmp_path / "never"
    os.mkfifo(fasta)  # nobody writes to it
    with pytest.raises(KeyError), indexing(cluster) as begin:
        begin(fasta, folder, 300)
        until("it is under way", lambda: not is_idle(nodes))
        raise KeyError
    until("the cluster is idle", lambda: is_idle(nodes))
    assert not folder.exists() or not any(folder.iterdir())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_one_sentence(address):
    with (
        pytest.raises(RunnerError, match=f"VIRNUC_RAY_ADDRESS={address}: no Ray cluster"),
        indexing(RayCluster(address)),
    ):
        pass


def test_without_a_shared_disk_files_are_indexed_here(write, tmp_path, caplog):
    cluster = RayCluster("127.0.0.1:1", exchange="s3://bucket/folder")
    with indexing(cluster) as begin:
        made = begin(write("a.fa", FASTA), tmp_path / "index", 300)()
    assert made.where == f"{HERE}, for the cluster's machines share no disk (VIRNUC_RAY_EXCHANGE)"
    assert made.where in caplog.text


def test_commands_and_the_asset_do_so(nodes, write, tmp_path):
    fasta, broken = write("sample.fa", FASTA), write("broken.fa", BROKEN)
    environ = {**os.environ, "VIRNUC_LAUNCHER": "ray", "VIRNUC_RAY_ADDRESS": nodes.address}

    def virnuc(*arguments, **changes):
        return subprocess.run(
            [VIRNUC, *map(str, arguments)],
            env={**environ, **changes}, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = virnuc("index", fasta, "-o", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    virnuc("index", fasta, "-o", tmp_path / "here", VIRNUC_LAUNCHER="local")
    assert files(tmp_path / "there") == files(tmp_path / "here")
    failed = virnuc("index", broken, "-o", tmp_path / "broken")
    assert failed.returncode == 1
    assert "broken.fa" in failed.stderr and "Traceback" not in failed.stderr
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        deployment = Deployment(tmp_path, instance)
        models = replace(deployment.models, launcher="ray", ray_address=outside(nodes))
        deployment.configure(models)
        deployment.add("sample", FASTA)
        result = deployment.index("sample")
    assert result.success
    (made,) = result.asset_materializations_for_node("sequence_index")
    assert made.metadata["indexed_on"].value != HERE
    assert files(deployment.layout.index("sample"))["proteins.arrow"]


def test_a_command_that_is_ended_cancels_its_task(nodes, tmp_path):
    fasta = tmp_path / "never.fa"
    os.mkfifo(fasta)
    command = subprocess.Popen(
        [VIRNUC, "index", str(fasta), "-o", str(tmp_path / "index")],
        env={**os.environ, "VIRNUC_LAUNCHER": "ray", "VIRNUC_RAY_ADDRESS": nodes.address},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until("it is under way", lambda: not is_idle(nodes))
    command.send_signal(signal.SIGINT)
    assert command.wait() != 0
    until("the cluster is idle", lambda: is_idle(nodes))
