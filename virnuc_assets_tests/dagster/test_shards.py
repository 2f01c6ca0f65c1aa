"""What is seen of shards while a run goes, and what is left to do when some of them fail."""

import dagster as dg
import pytest

from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.runner import client
from virnuc_assets.runner.events import Failed, ShardDone
from virnuc_assets_tests.dagster.deployment import failure_sentence, metadata

ASSET = "esm2_embeddings"


@pytest.fixture
def runner_says(monkeypatch):
    """Put a stream of events in place of the runner's."""

    def say(stream):
        monkeypatch.setattr(client, "stream", stream)

    return say


def done(shard):
    return ShardDone(shard, f"shard-{shard}.h5", reused=False, metadata={"rows": 10 + shard})


def observed(instance):
    """Rows that have been observed, by partition."""
    records = instance.fetch_observations(dg.AssetKey(ASSET), limit=100).records
    return {
        record.partition_key: record.asset_observation.metadata["rows"].value for record in records
    }


def test_a_shards_metadata_can_be_seen_while_the_others_are_computed(deployment, runner_says):
    seen = []

    def stream(job):
        for shard in job.shards:
            yield done(shard)
            seen.append((observed(deployment.instance), deployment.materialised(ASSET)))

    deployment.add("s")
    deployment.index("s")
    runner_says(stream)
    result = deployment.embed("s", assets=[ASSET])
    expected = {f"s|{shard}": 10 + shard for shard in range(N_SHARDS)}
    assert [set(rows) for rows, _ in seen] == [
        {f"s|{shard}" for shard in range(n + 1)} for n in range(N_SHARDS)
    ]
    assert seen[-1][0] == expected
    assert all(materialised == set() for _, materialised in seen)
    about = metadata(result, ASSET)
    assert {key: about[key]["rows"] for key in about} == expected


def test_what_is_materialised_says_what_it_was_made_from(deployment):
    deployment.add("s")
    deployment.index("s")
    assert deployment.embed("s", assets=[ASSET]).success
    for shard in range(N_SHARDS):
        record = deployment.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(ASSET), asset_partitions=[f"s|{shard}"]), limit=1
        ).records[0]
        tags = record.asset_materialization.tags
        assert "dagster/input_data_version/sequence_index" in tags, tags


def test_shards_that_are_done_are_materialised_when_another_fails(deployment, runner_says):
    def stream(job):
        yield done(0)
        yield Failed("no luck", shard=1)
        yield done(2)

    deployment.add("s")
    deployment.index("s")
    runner_says(stream)
    result = deployment.embed("s", assets=[ASSET])
    assert failure_sentence(result) == "no luck"
    assert deployment.materialised(ASSET) == {"s|0", "s|2"}
