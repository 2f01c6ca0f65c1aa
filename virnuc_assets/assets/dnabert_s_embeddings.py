"""Unique nucleotides of a sample's shard → DNABERT-S embeddings."""

import dagster as dg

from virnuc_assets.assets.embedding import GPU_POOL, embed_shards
from virnuc_assets.assets.sequence_index import sequence_index
from virnuc_assets.assets.sources import dnabert_s_weights
from virnuc_assets.automation import after_index
from virnuc_assets.encoders.catalog import VALUES_REVISION
from virnuc_assets.partitions import EMBEDDING_RUNS, sample_shards
from virnuc_assets.resources import Models, Store


@dg.asset(
    partitions_def=sample_shards,
    deps=[sequence_index, dnabert_s_weights],
    automation_condition=after_index,
    backfill_policy=EMBEDDING_RUNS,
    pool=GPU_POOL,
    code_version=str(VALUES_REVISION),
    group_name="virnuc",
    kinds={"torch", "hdf5"},
)
def dnabert_s_embeddings(
    context: dg.AssetExecutionContext, store: Store, models: Models
) -> dg.MaterializeResult:
    """DNABERT-S mean embeddings of the unique nucleotides, float32, one HDF5 file a shard."""
    return embed_shards(context, store, models, "dnabert-s")
