"""Partitions: a sample, and a shard of a sample."""

import dagster as dg

from virnuc_assets.settings import from_environment

_SETTINGS = from_environment()
N_SHARDS = _SETTINGS.n_shards
"""Shards a sample is cut into; part of the definitions, since Dagster fixes partitions at load."""
# One run embeds a sample's shards together: the model is loaded once, all GPUs are shared. Where a
# run is a pod of one GPU, it may have a single shard. Without a policy such a run says in its tags
# which sample it is of, and may be limited by them; with one of single partitions it would not.
EMBEDDING_RUNS = dg.BackfillPolicy.single_run() if _SETTINGS.run_per == "sample" else None

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
"""Tags of a run of all partitions from one to another, in the order of the definition."""

samples = dg.DynamicPartitionsDefinition(name="sample")
shards = dg.StaticPartitionsDefinition([str(shard) for shard in range(N_SHARDS)])
# A sample's index and calls, partitioned by sample alone, meet all its shards: Dagster infers that
# mapping from the shared dimension.
sample_shards = dg.MultiPartitionsDefinition({"sample": samples, "shard": shards})


def sample_of(partition: str) -> str:
    """The sample of a partition `sample` or `sample|shard`."""
    return partition.split("|")[0]


def shards_by_sample(keys: list[str]) -> dict[str, dict[int, str]]:
    """Group keys `sample|shard` by sample: shard number → key."""
    grouped: dict[str, dict[int, str]] = {}
    for key in keys:
        sample, shard = key.rsplit("|", 1)
        grouped.setdefault(sample, {})[int(shard)] = key
    return grouped
