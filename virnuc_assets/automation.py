"""Declarative automation: when an asset is materialised without a hand on it."""

from __future__ import annotations

import warnings

import dagster as dg

from virnuc_assets import embedding_runs

EMBEDDINGS = ("esm2_embeddings", "dnabert_s_embeddings")
CALLS = ("predictions", "sample_report", "cohort_summary")
_PRIORITY = "dagster/priority"


def _once_inputs_are_there(dependencies_updated: dg.AutomationCondition) -> dg.AutomationCondition:
    """Something new since it was last asked for, and nothing missing or on its way.

    New: it is missing, a dependency was updated, or its code version changed. Unlike Dagster's
    `eager`, it takes up what was missing before automation first looked. What has failed waits for
    a person, or for something new.
    """
    something_new = (
        dg.AutomationCondition.newly_missing()
        | dg.AutomationCondition.code_version_changed()
        | dependencies_updated
    ).since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    # Updated while a run was at work on what was there before: that run's end answers nothing.
    overtaken = (dependencies_updated & dg.AutomationCondition.run_in_progress()).since(
        dg.AutomationCondition.newly_requested()
    )
    return (
        (something_new | overtaken)
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    )


class MadeTogether(dg.AutomationCondition[dg.AssetKey]):
    """True for partitions of a dependency whose last run was to make the asset in question too.

    As Dagster's `executed_with_root_target`, which in 1.13 knows that of one partition alone, the
    one that was made last. Of others, whose runs are still at work, the asset would be asked for
    once more.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "made_together"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Of the candidates, those of which the root asset was planned by the same run."""
        instance = context.asset_graph_view.instance
        together = set()
        for partition in context.candidate_subset.expensively_compute_partition_keys():
            events = dg.AssetRecordsFilter(context.key, asset_partitions=[partition])
            for made in instance.fetch_materializations(events, limit=1).records:
                planned = instance.get_records_for_run(
                    made.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
                ).records
                if any(one.asset_key == context.root_context.key for one in planned):
                    together.add(partition)
        return dg.AutomationResult(
            context, context.candidate_subset.compute_intersection_with_partition_keys(together)
        )


after_inputs = _once_inputs_are_there(dg.AutomationCondition.any_deps_updated())
after_index = after_inputs & embedding_runs.NextSamples()

# Calls follow the embeddings and the head: a renewed index reaches them through renewed shards, and
# they must not start between the two.
after_embeddings = _once_inputs_are_there(
    dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets("sequence_index"))
)

# Reports are made by the run that makes the calls.
after_calls = _once_inputs_are_there(
    dg.AutomationCondition.any_deps_match(
        (dg.AutomationCondition.newly_updated() & ~MadeTogether())
        | dg.AutomationCondition.will_be_requested()
    )
)

# Of runs that wait, those of samples that are further on go first: of many new samples the first
# are called while the last are not indexed yet. What a person asks for goes before all of them.
automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all() - dg.AssetSelection.assets(*EMBEDDINGS, *CALLS),
    run_tags={_PRIORITY: "-3"},
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    # A run a sample. Backfills would wait for the backfill daemon, at both ends.
    emit_backfills=False,
    description="Indexes samples.",
)
with warnings.catch_warnings():
    # Beta in the versions of Dagster that this package allows.
    warnings.simplefilter("ignore", dg.BetaWarning)
    embedding_sensor = embedding_runs.FewRuns(
        "automation_of_embeddings",
        target=dg.AssetSelection.assets(*EMBEDDINGS),
        run_tags=embedding_runs.TAGS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,
        emit_backfills=False,
        # For a condition and runs of our own.
        use_user_code_server=True,
        description="Embeds indexed samples: small ones together, by one run.",
    )
    call_sensor = dg.AutomationConditionSensorDefinition(
        "automation_of_calls",
        target=dg.AssetSelection.assets(*CALLS),
        run_tags={_PRIORITY: "-1"},
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,
        emit_backfills=False,
        # For a condition of our own.
        use_user_code_server=True,
        description="Takes embedded samples to their reports, and sums all up.",
    )
