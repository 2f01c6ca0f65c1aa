"""How many samples automation asks to embed at a time."""

from __future__ import annotations

import dagster as dg

from virnuc_assets.partitions import N_SHARDS, sample_of


class FewSamples(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of the first samples of those in question, as many as shards.

    Of more samples than there are shards, Dagster puts one shard of every sample into a run, and
    not all shards of one sample: no sample could be called before the last of these runs. The
    others' turn comes on the next ticks.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "few_samples_at_once"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, those of the first samples by name."""
        partitions = context.candidate_subset.expensively_compute_partition_keys()
        first = set(sorted({sample_of(one) for one in partitions})[:N_SHARDS])
        chosen = {one for one in partitions if sample_of(one) in first}
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(chosen)
        )
