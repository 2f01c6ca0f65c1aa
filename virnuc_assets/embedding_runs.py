"""How automation asks for embeddings: few runs, each of all that is ready when it is asked for.

A run loads each encoder once, however many samples it embeds. By itself Dagster 1.13 would ask for
a run of every shard, or by a backfill for which its daemon takes up to half a minute at both ends,
and which makes a run a sample, or a run a shard of many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster_shared.record import copy

from virnuc_assets.partitions import (
    EMBEDDING_RUNS,
    N_SHARDS,
    RANGE_END,
    RANGE_START,
    sample_of,
    samples,
    shards_by_sample,
)
from virnuc_assets.sample_batches import batches, file_bytes
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout

TAGS = {"dagster/priority": "-2", "virnuc/asked_for_by": "automation"}
MOST_RUNS = 64
"""That are asked for at once, at most: to submit one took a fifth of a second on two cores."""
_RUNS_A_SAMPLE = N_SHARDS if EMBEDDING_RUNS is None else 1
_T = TypeVar("_T")


class NextSamples(dg.AutomationCondition[dg.AssetKey]):
    """True for the next samples, in the order in which they came, while no run waits for the GPUs.

    What is indexed meanwhile makes the next runs: the busier the GPUs, the more samples they have.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "next_samples"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, all shards of the first samples; none while a run waits."""
        instance = context.asset_graph_view.instance
        wanted = context.candidate_subset.expensively_compute_partition_keys()
        waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED], tags=TAGS)
        chosen: set[str] = set()
        if wanted and not instance.get_runs_count(waiting):
            place = _places(instance)
            names = sorted({sample_of(one) for one in wanted} & place.keys(), key=place.__getitem__)
            first = set(names[: max(1, MOST_RUNS // _RUNS_A_SAMPLE)])
            chosen = {one for one in wanted if sample_of(one) in first}
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(chosen)
        )


class FewRuns(dg.AutomationConditionSensorDefinition):
    """Automation whose runs are of many partitions, where a run may have many."""

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """As Dagster's own, and then fewer runs."""
        found = super().evaluate_tick(context)
        if EMBEDDING_RUNS is None or not found.run_requests:
            return found
        layout = Layout(from_environment().store)
        merged = merge(found.run_requests, _places(context.instance), partial(file_bytes, layout))
        return copy(found, run_requests=list(merged))


def merge(
    requests: Sequence[dg.RunRequest],
    place: Mapping[str, int],
    bytes_of: Callable[[str], float],
) -> Iterator[dg.RunRequest]:
    """Requests for ranges of partitions, instead of `requests` for single ones.

    A range goes from a sample to another and from a shard to another: it holds the same shards of
    all its samples.

    Args:
        place: of each sample there is, in their order; neighbours may be in one range.
        bytes_of: the size of a sample's file.
    """

    def assets_of(request: dg.RunRequest) -> tuple[dg.AssetKey, ...]:
        return tuple(sorted(request.asset_selection or ()))

    for assets, single in groupby(sorted(requests, key=assets_of), key=assets_of):
        spans: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for name, shards in shards_by_sample([str(one.partition_key) for one in single]).items():
            for stretch in _neighbours(sorted(shards), int):
                spans[stretch[0], stretch[-1]].append(name)
        for (first, last), names in sorted(spans.items()):
            there = sorted(place.keys() & set(names), key=place.__getitem__)
            for neighbours in _neighbours(there, place.__getitem__):
                for batch in batches(neighbours, bytes_of):
                    ends = {RANGE_START: f"{batch[0]}|{first}", RANGE_END: f"{batch[-1]}|{last}"}
                    yield dg.RunRequest(asset_selection=list(assets), tags={**TAGS, **ends})


def _places(instance: dg.DagsterInstance) -> dict[str, int]:
    names = samples.get_partition_keys(dynamic_partitions_store=instance)
    return {name: number for number, name in enumerate(names)}


def _neighbours(items: Sequence[_T], place: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Ordered items, cut wherever the next has not the next place."""
    for _, group in groupby(enumerate(items), key=lambda pair: place(pair[1]) - pair[0]):
        yield [item for _, item in group]
