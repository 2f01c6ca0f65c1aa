"""All samples' results → one table and one page."""

import base64
from typing import TYPE_CHECKING

import dagster as dg

from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.predictions import predictions
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store

if TYPE_CHECKING:
    import polars as pl

_TABLE_ROWS = 20
# Raise when the same results give another summary.
_REVISION = "1"

_moving = (
    dg.AutomationCondition.in_progress()
    | dg.AutomationCondition.newly_requested()
    | dg.AutomationCondition.newly_updated()
)
# What predictions are made of; each dependency looked at costs time at every tick.
_samples_are_on_their_way = dg.AutomationCondition.any_deps_match(
    _moving
    | dg.AutomationCondition.any_deps_match(_moving).allow(
        dg.AssetSelection.assets("sequence_index", "esm2_embeddings", "dnabert_s_embeddings")
    )
)
# Since it was last asked for, not made: what is called while it is being made would be forgotten.
# Calls by themselves, or Dagster would not compare when they were made with when it was asked for.
_asked_for = dg.AutomationCondition.newly_requested()
_samples_were_called = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.newly_updated()
).since(_asked_for)
_it_is_missing_or_new = (
    dg.AutomationCondition.newly_missing() | dg.AutomationCondition.code_version_changed()
).since(_asked_for)
_an_hour_began = dg.AutomationCondition.cron_tick_passed("0 * * * *").since(_asked_for)
# On two ticks in a row: what is asked for on one is seen on the next.
_samples_rest = ~_samples_are_on_their_way & ~(~_samples_are_on_their_way).newly_true()
# Once for many samples: when some were called and no other is on its way to its calls; where there
# always is one, every hour.
after_all_samples = (
    (_samples_were_called | _it_is_missing_or_new)
    & (_samples_rest | _an_hour_began)
    & dg.AutomationCondition.any_deps_match(~dg.AutomationCondition.missing())
    & ~dg.AutomationCondition.in_progress()
)


@dg.asset(
    deps=[predictions],
    automation_condition=after_all_samples,
    code_version=_REVISION,
    group_name="virnuc",
    kinds={"html", "parquet"},
)
def cohort_summary(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult:
    """Every sample's key figures, those that stand out marked: one page and one table."""
    # Import Polars: not in every process that loads the definitions.
    from virnuc_assets.classifier.cohort_page import markdown_table
    from virnuc_assets.reporting import summarise_cohort

    with explained():
        cohort, files = summarise_cohort(
            store.layout, context.instance.get_dynamic_partitions(str(samples.name))
        )
    for sentence in cohort.unread:
        context.log.warning(sentence)
    return dg.MaterializeResult(
        metadata={
            **_numbers(cohort.table),
            "samples_that_stand_out": len(cohort.outliers),
            "samples_not_read": len(cohort.unread),
            "page": dg.MetadataValue.path(str(files.page)),
            "table": dg.MetadataValue.path(str(files.table)),
            "first_samples": dg.MetadataValue.md(markdown_table(cohort, _TABLE_ROWS)),
            **({"plot": _plot(cohort.table)} if len(cohort.table) else {}),
        }
    )


def _numbers(table: "pl.DataFrame") -> dict[str, float]:
    """Numbers that Dagster plots over time."""
    totals = table.select("records", "bases", "called_records", "viral_records").sum()
    found: dict[str, float] = {"samples": len(table), **totals.row(0, named=True)}
    if found["called_records"]:
        found["viral_share"] = found["viral_records"] / found["called_records"]
    return found


def _plot(table: "pl.DataFrame") -> dg.MarkdownMetadataValue:
    # Imports matplotlib: not in every process that loads the definitions.
    from virnuc_assets.classifier.cohort_figures import strips_png

    png = base64.b64encode(strips_png(table)).decode()
    return dg.MetadataValue.md(f"![the samples' key figures](data:image/png;base64,{png})")
