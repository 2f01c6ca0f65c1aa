"""Materialisations that Dagster has stored and left out of its account of them.

Dagster keeps for each asset which partitions there are, as of an event: automation and the UI go by
that account. It brings it up to date from the asset's record, read first, and from the last
planned event, read after it (`_build_status_cache` of Dagster 1.13). What is materialised between
the two, when a run is planned then too, is passed over and counts as missing for ever: what
follows from it would never be asked for.
"""

from __future__ import annotations

from collections.abc import Set

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context


@dg.sensor(
    name="lost_materialisations",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def lost_materialisations_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Drop the account of an asset in which materialised partitions are missing.

    Dagster makes it anew from all events when it is next asked for, and automation goes on from it.
    """
    instance = context.instance
    repository = context.repository_def
    assert repository is not None, "a sensor's context has its repository"
    graph = repository.asset_graph
    with partition_loading_context(dynamic_partitions_store=instance):
        for key in sorted(graph.materializable_asset_keys):
            definition = graph.get(key).partitions_def
            if definition is not None and (lost := _lost(instance, key, definition)):
                instance.wipe_asset_cached_status([key])
                context.log.warning(
                    f"{key.to_user_string()}: {', '.join(sorted(lost))} had been materialised and "
                    "were counted as missing; what is there is counted again"
                )
    return dg.SkipReason("This sensor starts no runs.")


def _lost(
    instance: dg.DagsterInstance, key: dg.AssetKey, definition: dg.PartitionsDefinition
) -> Set[str]:
    """Partitions that the account, as of its last event, should hold and does not."""
    records = instance.get_asset_records([key])
    account = records[0].asset_entry.cached_status if records else None
    if (
        account is None
        or account.partitions_def_id != definition.get_serializable_unique_identifier()
    ):
        return set()
    there = instance.get_materialized_partitions(key, before_cursor=account.latest_storage_id + 1)
    known = account.deserialize_materialized_partition_subsets(definition).get_partition_keys()
    return definition.filter_valid_partition_keys(set(there)) - set(known)
