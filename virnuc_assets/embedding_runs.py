"""How automation asks for embeddings: few runs, each of all that is ready when it is asked for.

A run loads each encoder once, however many samples it embeds. By itself Dagster 1.13 would ask for
a run of every shard, or by a backfill for which its daemon takes up to half a minute at both ends,
and which makes a run a sample, or a run a shard of many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster_shared.record import copy

from virnuc_assets.partitions import (
    EMBEDDING_RUNS,
    RANGE_END,
    RANGE_START,
    sample_of,
    sample_shards,
)
from virnuc_assets.sample_batches import batches, file_bytes
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout

TAGS = {"dagster/priority": "-2", "virnuc/asked_for_by": "automation"}
_WAITING = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED]


class NoneWaits(dg.AutomationCondition[dg.AssetKey]):
    """True while no run that automation has asked for waits for the GPUs.

    What is indexed meanwhile makes the next run: the busier the GPUs, the more samples it has.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "no_embedding_waits"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """All of the candidates or none."""
        waiting = dg.RunsFilter(statuses=_WAITING, tags=TAGS)
        some = EMBEDDING_RUNS is not None and context.asset_graph_view.instance.get_runs_count(
            waiting
        )
        subset = context.get_empty_subset() if some else context.candidate_subset
        return dg.AutomationResult(context, subset)


class FewRuns(dg.AutomationConditionSensorDefinition):
    """Automation whose runs are of neighbouring partitions, where a run may have many."""

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """As Dagster's own, and then fewer runs."""
        found = super().evaluate_tick(context)
        if EMBEDDING_RUNS is None or not found.run_requests:
            return found
        order = sample_shards.get_partition_keys(dynamic_partitions_store=context.instance)
        layout = Layout(from_environment().store)
        merged = merge(found.run_requests, order, partial(file_bytes, layout))
        return copy(found, run_requests=list(merged))


def merge(
    requests: Sequence[dg.RunRequest], order: Sequence[str], bytes_of: Callable[[str], float]
) -> Iterator[dg.RunRequest]:
    """Requests for ranges of partitions, instead of `requests` for single ones.

    Args:
        order: all partitions there are; neighbours may be in one range.
        bytes_of: the size of a sample's file.
    """
    place = {key: number for number, key in enumerate(order)}

    def assets_of(request: dg.RunRequest) -> tuple[dg.AssetKey, ...]:
        return tuple(sorted(request.asset_selection or ()))

    for assets, single in groupby(sorted(requests, key=assets_of), key=assets_of):
        places = sorted(place[request.partition_key or ""] for request in single)
        for _, neighbours in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
            keys = [order[number] for _, number in neighbours]
            names = list(dict.fromkeys(map(sample_of, keys)))
            for batch in batches(names, bytes_of):
                own = [key for key in keys if sample_of(key) in set(batch)]
                tags = {**TAGS, RANGE_START: own[0], RANGE_END: own[-1]}
                yield dg.RunRequest(asset_selection=list(assets), tags=tags)
