"""Partitions: a sample, and a shard of a sample."""

import dagster as dg

from virnuc_assets.settings import from_environment

N_SHARDS = from_environment().n_shards
"""Shards a sample is cut into; part of the definitions, since Dagster fixes partitions at load."""

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
