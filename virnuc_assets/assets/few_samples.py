"""How many samples automation asks to embed at a time."""

from __future__ import annotations

import dagster as dg

from virnuc_assets.automation import EMBEDDINGS
from virnuc_assets.partitions import N_SHARDS, sample_of

# What is asked for waits up to half a minute for the backfill daemon; the GPUs are busy meanwhile.
MOST_ON_THEIR_WAY = max(16, 2 * N_SHARDS)


class FewSamples(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of the first samples of those in question, as many as shards.

    Of more samples than there are shards, Dagster puts one shard of every sample into a run, and
    not all shards of one sample: the first sample would wait for the last. The others' turn comes
    on the next ticks, while no more than `MOST_ON_THEIR_WAY` are on theirs: one run at a time has
    the GPUs, and Dagster looks after every backfill that waits for them, at a cost that grows with
    the number of samples.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "few_samples_at_once"

    async def evaluate(  # type: ignore[override]  # Dagster awaits what is a coroutine
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, those of the first samples by name."""
        partitions = context.candidate_subset.expensively_compute_partition_keys()
        room = MOST_ON_THEIR_WAY - len(await _on_their_way(context)) if partitions else 0
        first = set(sorted({sample_of(one) for one in partitions})[: max(0, min(room, N_SHARDS))])
        chosen = {one for one in partitions if sample_of(one) in first}
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(chosen)
        )


async def _on_their_way(context: dg.AutomationContext[dg.AssetKey]) -> set[str]:
    """Samples that are to be embedded by either encoder: both assets are to ask for the same."""
    view = context.asset_graph_view
    samples: set[str] = set()
    for name in EMBEDDINGS:
        key = dg.AssetKey(name)
        all_of_it = view.get_full_subset(key=key)
        for subset in (
            await view.compute_run_in_progress_subset(key=key, from_subset=all_of_it),
            await view.compute_backfill_in_progress_subset(key=key, from_subset=all_of_it),
        ):
            samples |= {sample_of(one) for one in subset.expensively_compute_partition_keys()}
    return samples
