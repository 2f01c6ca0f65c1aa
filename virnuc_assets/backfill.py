"""Backfills of whole samples: which partitions are to be made, and handing them to the daemon.

The daemon materialises them in the order of the assets, each as its backfill policy says: one run
indexes a sample, one embeds all its shards (or, of many small samples, one embeds a shard of
each), one calls it and writes its report.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Literal

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from dagster._core.utils import make_new_backfill_id

from virnuc_assets.partitions import N_SHARDS, sample_of, sample_shards, samples
from virnuc_assets.sample_batches import batches, file_bytes
from virnuc_assets.store.layout import Layout

Which = Literal["all", "missing", "failed"]
PRIORITY_TAG = "dagster/priority"
_BACKFILL_DAEMON = "BACKFILL"
_HEARTBEAT_SECONDS = 120.0
_NAMED = 8

Plan = dict[dg.AssetKey, list[str]]
"""Asset → partitions to be made; assets in the order of the graph."""


def plan(
    graph: BaseAssetGraph, instance: dg.DagsterInstance, names: Sequence[str], which: Which
) -> Plan:
    """What is to be made of the samples `names`.

    `all`: everything. `missing`: what was never made. `failed`: what failed when it was last
    tried. What follows from a partition that is made is made too. Partitions that a run is at work
    on are neither missing nor failed.
    """
    found: Plan = {}
    begun: dict[dg.AssetKey, set[str]] = {}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if not node.is_materializable or node.partitions_def not in (samples, sample_shards):
            continue
        keys = {
            name: [name]
            if node.partitions_def == samples
            else [f"{name}|{shard}" for shard in range(N_SHARDS)]
            for name in names
        }
        follows = set[str]().union(*(begun.get(parent, set()) for parent in node.parent_keys))
        wanted = _wanted(instance, key, node.partitions_def, list(chain(*keys.values())), which)
        found[key] = [
            one
            for name in names
            for one in keys[name]
            if which == "all" or name in follows or one in wanted
        ]
        begun[key] = {sample_of(one) for one in found[key]}
    return {key: partitions for key, partitions in found.items() if partitions}


def launch(
    graph: BaseAssetGraph,
    instance: dg.DagsterInstance,
    layout: Layout,
    found: Plan,
    priority: int,
) -> list[str]:
    """Ask the daemon for what was planned, a backfill a batch of samples; their ids.

    Of the shards of no more samples than there are shards, Dagster 1.13 makes a run a sample; of
    more it makes a run a shard, and no sample can be called before the last of these runs.
    """
    names = list(dict.fromkeys(sample_of(key) for keys in found.values() for key in keys))
    return [
        _launch(graph, instance, found, set(batch), priority)
        for batch in batches(names, partial(file_bytes, layout), at_least=N_SHARDS)
    ]


def _launch(
    graph: BaseAssetGraph,
    instance: dg.DagsterInstance,
    found: Plan,
    names: set[str],
    priority: int,
) -> str:
    subsets = {}
    for key, partitions in found.items():
        partitions_def = graph.get(key).partitions_def
        assert partitions_def is not None
        own = [one for one in partitions if sample_of(one) in names]
        if own:
            subsets[key] = partitions_def.subset_with_partition_keys(own)
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=time.time(),
        tags={PRIORITY_TAG: str(priority)},
        dynamic_partitions_store=instance,
        asset_graph_subset=AssetGraphSubset(subsets, set()),  # type: ignore[call-arg]
        title=_title(sorted(names)),
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def _title(names: Sequence[str]) -> str:
    few = ", ".join(names[:_NAMED])
    return few if len(names) <= _NAMED else f"{few} and {len(names) - _NAMED} more"


def is_daemon_alive(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that launches backfills has been heard of in the last two minutes."""
    heartbeat = instance.get_daemon_heartbeats().get(_BACKFILL_DAEMON)
    return heartbeat is not None and time.time() - heartbeat.timestamp < _HEARTBEAT_SECONDS


def _wanted(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partitions_def: dg.PartitionsDefinition,
    partitions: list[str],
    which: Which,
) -> set[str]:
    """Those of `partitions` that are missing, or that failed."""
    status = instance.get_status_by_partition(key, partitions, partitions_def) or {}
    if which == "failed":
        return {one for one in partitions if status.get(one) == AssetPartitionStatus.FAILED}
    # What was made stays made when it is tried again and fails.
    made = instance.get_materialized_partitions(key)
    at_work = AssetPartitionStatus.IN_PROGRESS
    return {one for one in partitions if one not in made and status.get(one) != at_work}
