import os

import dagster as dg
import pytest

from virnuc_assets.resources import Store
from virnuc_assets.sensors import inbox_sensor
from virnuc_assets.store.samples import registered
from virnuc_assets_tests.dagster.deployment import FASTA


@pytest.fixture
def tick(deployment):
    """Evaluate the sensor as the daemon would, and apply its partition requests."""
    state = {"cursor": None}

    def evaluate():
        context = dg.build_sensor_context(
            instance=deployment.instance,
            cursor=state["cursor"],
            resources={"store": Store(root=str(deployment.layout.root))},
            definitions=deployment.defs,
        )
        result = inbox_sensor(context)
        state["cursor"] = result.cursor
        for request in result.dynamic_partitions_requests:
            deployment.instance.add_dynamic_partitions("sample", list(request.partition_keys))
        return result

    return evaluate


def test_a_file_becomes_a_sample_once_it_has_settled(deployment, tick):
    tick()
    file = deployment.layout.inbox / "run 7.fa"
    file.write_text(FASTA)
    tick()
    assert deployment.instance.get_dynamic_partitions("sample") == []
    file.write_text(FASTA * 2)
    tick()
    assert deployment.instance.get_dynamic_partitions("sample") == []
    tick()
    assert deployment.instance.get_dynamic_partitions("sample") == ["run_7"]
    assert registered(deployment.layout, "run_7").source == str(file)
    again = tick()
    assert again.run_requests == []
    assert again.dynamic_partitions_requests == []


def test_a_rewritten_file_is_indexed_again(deployment, tick):
    tick()
    file = deployment.layout.inbox / "a.fa"
    file.write_text(FASTA)
    tick()
    tick()
    file.write_text(FASTA * 2)
    os.utime(file, ns=(1, 1))
    tick()
    (request,) = tick().run_requests
    assert request.partition_key == "a"


def test_two_files_for_one_sample_are_not_mixed(deployment, tick):
    tick()
    for name in ("a.fa", "a.fasta"):
        (deployment.layout.inbox / name).write_text(FASTA)
    tick()
    tick()
    assert deployment.instance.get_dynamic_partitions("sample") == ["a"]
    assert registered(deployment.layout, "a").source.endswith("a.fa")


def test_what_is_no_fasta_is_left_alone(deployment, tick):
    tick()
    (deployment.layout.inbox / "notes.txt").write_text("hello")
    (deployment.layout.inbox / "folder.fa").mkdir()
    tick()
    tick()
    assert deployment.instance.get_dynamic_partitions("sample") == []
