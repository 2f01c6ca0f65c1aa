"""What automation asks for, by Dagster's own evaluation of the conditions."""

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from virnuc_assets.automation import EMBEDDING_TAGS, EMBEDDINGS
from virnuc_assets.partitions import N_SHARDS, sample_of, sample_shards
from virnuc_assets.sample_batches import MOST_BYTES, MOST_SAMPLES
from virnuc_assets_tests.dagster.deployment import Deployment
from virnuc_assets_tests.dagster.stand_ins import definitions


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    monkeypatch.setenv("VIRNUC_STORE", str(tmp_path / "store"))
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


def indexed(deployment, requested, names, own_bytes=None):
    """Add samples and index them; `own_bytes`: how large their files are."""
    requested()
    for name in names:
        fasta = deployment.add(name)
        if own_bytes is not None:
            with fasta.open("r+b") as file:
                file.truncate(own_bytes)
    assert requested() == {"sequence_index": set(names)}
    for name in names:
        deployment.index(name)


def samples_asked_for(asked):
    """The samples that both encoders are asked to embed, whole."""
    assert asked["esm2_embeddings"] == asked["dnabert_s_embeddings"]
    names = {sample_of(key) for key in asked["esm2_embeddings"]}
    assert len(asked["esm2_embeddings"]) == len(names) * N_SHARDS
    return names


def test_large_samples_are_embedded_as_many_as_shards_at_a_time(deployment, requested):
    """Of more, Dagster would put a shard of each into a run, and the first wait for the last."""
    names = [f"s{number}" for number in range(2 * N_SHARDS + 1)]
    indexed(deployment, requested, names, own_bytes=MOST_BYTES // N_SHARDS)
    turns = []
    while asked := requested():
        turns.append(samples_asked_for(asked))
    n = N_SHARDS
    assert turns == [set(names[:n]), set(names[n : 2 * n]), set(names[2 * n :])]


def test_small_samples_are_embedded_together_in_the_order_they_came_in(deployment, requested):
    names = [f"s{number:02d}" for number in range(MOST_SAMPLES + 1)][::-1]
    indexed(deployment, requested, names)
    assert samples_asked_for(requested()) == set(names[:-1])
    assert samples_asked_for(requested()) == set(names[-1:])


def test_a_sample_whose_file_is_gone_is_asked_for(deployment, requested):
    """Its run says so."""
    requested()
    fasta = deployment.add("s")
    requested()
    deployment.index("s")
    fasta.unlink()
    assert samples_asked_for(requested()) == {"s"}


def test_while_one_batch_has_the_gpus_and_one_waits_no_other_is_asked_for(deployment, requested):
    names = ["by_hand", "first", "second", "third"]
    indexed(deployment, requested, names)
    instance = deployment.instance

    def backfill(name, tags):
        shards = sample_shards.subset_with_partition_keys(f"{name}|{i}" for i in range(N_SHARDS))
        wanted = AssetGraphSubset({dg.AssetKey(asset): shards for asset in EMBEDDINGS}, set())
        instance.add_backfill(
            PartitionBackfill.from_asset_graph_subset(
                name, 0.0, tags, instance, wanted, None, None, None
            )
        )

    # What a person asks for is not counted.
    backfill("by_hand", {})
    backfill("first", EMBEDDING_TAGS)
    backfill("second", EMBEDDING_TAGS)
    assert requested() == {}
    done = instance.get_backfill("first").with_status(BulkActionStatus.COMPLETED_SUCCESS)
    instance.update_backfill(done)
    assert samples_asked_for(requested()) == {"first", "third"}
