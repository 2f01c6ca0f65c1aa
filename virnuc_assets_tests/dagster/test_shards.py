"""What is seen of shards while a run goes, and what is left to do when some of them fail."""

import dagster as dg
import numpy as np
import pytest

from virnuc_assets import pipeline
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START
from virnuc_assets.runner import client
from virnuc_assets.runner.events import Failed, ShardDone
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.sharded import ShardedEmbeddings
from virnuc_assets_tests.dagster.deployment import FASTA, failure_sentence, metadata
from virnuc_assets_tests.worker_logs import encoders_loaded

ASSET = "esm2_embeddings"


@pytest.fixture
def runner_says(monkeypatch):
    """Put a stream of events in place of the runner's."""

    def say(stream):
        def stream_all(jobs):
            for number, job in enumerate(jobs):
                for event in stream(job):
                    yield number, event

        monkeypatch.setattr(client, "stream_all", stream_all)

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


OTHER_FASTA = """\
>longer
ATGGCTAAAGGTGCTGCTCGTAAACGTGCTGGTGCTAAAGGTGCTGCTCGTAAACGTGCTGGTGCTGGTCGTGCTAAAGCTGGTCGTCGTGCT
"""


def embed_from_to(deployment, first, last, asset=ASSET):
    """Embed shards of several samples in one run, as a backfill of many samples asks for them."""
    return deployment.execute(
        "embed_samples",
        tags={RANGE_START: first, RANGE_END: last},
        asset_selection=[dg.AssetKey(asset)],
    )


@pytest.mark.slow
def test_a_run_of_several_samples_loads_the_encoder_once_and_does_what_it_can(deployment):
    for name in ("a", "b", "c"):
        deployment.add(name, OTHER_FASTA if name == "c" else FASTA)
    for name in ("a", "c"):
        deployment.index(name)
    result = embed_from_to(deployment, "a|0", f"c|{N_SHARDS - 1}")
    assert "b/index" in failure_sentence(result)
    whole = {f"{name}|{shard}" for name in "ac" for shard in range(N_SHARDS)}
    assert deployment.materialised(ASSET) == whole
    assert encoders_loaded(deployment.layout) == 1
    weights = deployment.models.encoding("esm2").weights
    encoder = load_encoder(EncoderSettings("esm2", weights))
    for name in "ac":
        assert_whole(deployment, name, encoder)


def assert_whole(deployment, name, encoder):
    """Every embedding of a sample is, bit for bit, what `encoder` alone gives."""
    index = deployment.layout.index(name)
    manifest = read_manifest(index)
    of = encoder.description.encoder
    facts = pipeline.sequence_table(manifest, of)
    rows = np.arange(facts.rows)
    stored = ShardedEmbeddings(
        deployment.layout.embeddings(name, of), N_SHARDS, facts.rows, manifest.index_digest
    )
    sequences = SequenceTable(index / facts.file).take(rows)
    assert np.array_equal(stored.take(rows), encoder.embed(sequences).values)
