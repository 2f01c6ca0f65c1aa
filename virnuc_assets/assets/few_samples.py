"""How many samples automation asks to embed at a time."""

from __future__ import annotations

from functools import partial

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from virnuc_assets.automation import EMBEDDING_TAGS
from virnuc_assets.partitions import sample_of, samples
from virnuc_assets.sample_batches import batches, file_bytes
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout

# One has the GPUs, one waits for them: it may be half a minute before the backfill daemon looks.
MOST_BACKFILLS = 2


class FewSamples(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of the samples of those in question that are to be embedded next.

    The first batch of them, in the order in which they came, while fewer than two backfills of
    automation's are at work. Samples that are indexed meanwhile make the next batch: the busier the
    GPUs, the larger it is. And Dagster looks after every backfill that waits, at a cost.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "few_samples_at_once"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, those of the first samples; none while enough are asked for."""
        instance = context.asset_graph_view.instance
        partitions = context.candidate_subset.expensively_compute_partition_keys()
        chosen: set[str] = set()
        if partitions and _backfills(instance) < MOST_BACKFILLS:
            wanted = {sample_of(one) for one in partitions}
            order = samples.get_partition_keys(dynamic_partitions_store=instance)
            names = [name for name in order if name in wanted]
            layout = Layout(from_environment().store)
            first = set(next(batches(names, partial(file_bytes, layout))))
            chosen = {one for one in partitions if sample_of(one) in first}
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(chosen)
        )


def _backfills(instance: dg.DagsterInstance) -> int:
    """How many backfills of embeddings automation has under way."""
    at_work = instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    return sum(EMBEDDING_TAGS.items() <= backfill.tags.items() for backfill in at_work)
