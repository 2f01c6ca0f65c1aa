"""What automation asks for, by Dagster's own evaluation of the conditions."""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from virnuc_assets.assets.few_samples import MOST_ON_THEIR_WAY
from virnuc_assets.automation import EMBEDDINGS
from virnuc_assets.backfill import launch
from virnuc_assets.partitions import N_SHARDS, sample_of
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import definitions


@pytest.fixture
def deployment(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        deployment = Deployment(tmp_path, instance)
        deployment.defs = definitions(deployment.layout.root)
        deployment.observe()
        yield deployment


@pytest.fixture
def requested(deployment):
    """Evaluate one tick; asset → partitions it asks for."""
    state = {"cursor": None}

    def evaluate():
        result = dg.evaluate_automation_conditions(
            defs=deployment.defs, instance=deployment.instance, cursor=state["cursor"]
        )
        state["cursor"] = result.cursor
        return {
            key.to_user_string(): partitions
            for key in deployment.defs.resolve_asset_graph().get_all_asset_keys()
            if (partitions := result.get_requested_partitions(key))
        }

    return evaluate


SHARDS = {f"s|{shard}" for shard in range(N_SHARDS)}


def test_each_step_follows_when_all_it_needs_is_there(deployment, requested):
    assert requested() == {}
    deployment.add("s")
    assert requested() == {"sequence_index": {"s"}}
    deployment.index("s")
    assert requested() == {"esm2_embeddings": SHARDS, "dnabert_s_embeddings": SHARDS}
    assert requested() == {}
    deployment.embed("s")
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}
    deployment.embed("s", last=N_SHARDS - 2)
    assert requested() == {}
    deployment.embed("s", first=N_SHARDS - 1)
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}
    deployment.predict("s")
    assert requested() == {}


def test_a_second_sample_touches_only_its_own_partitions(deployment, requested):
    requested()
    deployment.add("s")
    requested()
    deployment.index("s")
    requested()
    deployment.add("t")
    assert requested() == {"sequence_index": {"t"}}


def test_a_renewed_index_renews_all_that_follows(deployment, requested):
    deployment.add("s")
    requested()
    for step in (deployment.index, deployment.embed, deployment.predict):
        step("s")
        requested()
    deployment.index("s")
    assert requested() == {"esm2_embeddings": SHARDS, "dnabert_s_embeddings": SHARDS}
    assert requested() == {}
    deployment.embed("s")
    assert requested() == {"predictions": {"s"}, "sample_report": {"s"}}


def test_many_samples_are_embedded_a_few_at_a_time(deployment, requested):
    """As many samples as shards: of more, Dagster would put a shard of each into a run."""
    names = [f"s{number}" for number in range(2 * N_SHARDS + 1)]
    requested()
    for name in names:
        deployment.add(name)
    assert requested() == {"sequence_index": set(names)}
    for name in names:
        deployment.index(name)
    turns = []
    while asked := requested():
        assert asked["esm2_embeddings"] == asked["dnabert_s_embeddings"]
        turns.append({sample_of(key) for key in asked["esm2_embeddings"]})
        assert len(asked["esm2_embeddings"]) == len(turns[-1]) * N_SHARDS
    assert [len(turn) for turn in turns] == [N_SHARDS, N_SHARDS, 1]
    assert set().union(*turns) == set(names)


def test_no_more_are_asked_for_while_enough_wait_for_the_gpus(deployment, requested):
    names = [f"s{number:02d}" for number in range(MOST_ON_THEIR_WAY + 2)]
    requested()
    for name in names:
        deployment.add(name)
    requested()
    for name in names:
        deployment.index(name)
    first, last = names[:-3], names[-3:]
    embeddings = {
        dg.AssetKey(asset): [f"{name}|{shard}" for name in first for shard in range(N_SHARDS)]
        for asset in EMBEDDINGS
    }
    launch(deployment.defs.resolve_asset_graph(), deployment.instance, embeddings, priority=0)
    # There is room for one more.
    asked = requested()
    assert asked["esm2_embeddings"] == {f"{last[0]}|{shard}" for shard in range(N_SHARDS)}
    assert asked["dnabert_s_embeddings"] == asked["esm2_embeddings"]
    for backfill in deployment.instance.get_backfills():
        deployment.instance.update_backfill(
            backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS)
        )
    assert {sample_of(key) for key in requested()["esm2_embeddings"]} == set(names[:N_SHARDS])
