"""One run at a time has the GPUs, from the first that there ever is."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from virnuc_assets.assets.embedding import GPU_POOL
from virnuc_assets.assets.gpu_pool import make_pool_known
from virnuc_assets_tests.dagster.deployment import Deployment

PROJECT = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture
def deployment(tmp_path):
    """With the pools of the project's own dagster.yaml."""
    pools = yaml.safe_load(PROJECT.read_text())["concurrency"]["pools"]
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(
        temp_dir=str(home), overrides={"concurrency": {"pools": pools}}
    ) as instance:
        yield Deployment(tmp_path, instance)


def limits(instance):
    return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}


def test_the_pool_is_known_once_there_is_a_sample(deployment):
    assert limits(deployment.instance) == {}
    deployment.add("a")
    assert limits(deployment.instance) == {GPU_POOL: 1}


def test_a_limit_that_a_person_set_stays(deployment):
    deployment.instance.event_log_storage.set_concurrency_slots(GPU_POOL, 2)
    make_pool_known(deployment.instance)
    assert limits(deployment.instance) == {GPU_POOL: 2}


def test_runs_wait_in_the_queue_and_not_in_processes(deployment):
    """By op, Dagster's in-process executor asks for the slot without a pause."""
    pools = deployment.instance.get_concurrency_config().pool_config
    assert pools.pool_granularity.value == "run"
