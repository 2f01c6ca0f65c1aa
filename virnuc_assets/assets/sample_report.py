"""Predictions → a page a person reads."""

import base64

import dagster as dg

from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.predictions import predictions
from virnuc_assets.automation import after_calls
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store

# Raise when the same results give another page.
_REVISION = "1"


@dg.asset(
    partitions_def=samples,
    deps=[predictions],
    automation_condition=after_calls,
    code_version=_REVISION,
    group_name="virnuc",
    kinds={"html", "matplotlib"},
)
def sample_report(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult:
    """One self-contained HTML page: calls, scores, what could not be called, provenance."""
    # Import Polars: not in every process that loads the definitions.
    from virnuc_assets.classifier.report import score_histogram
    from virnuc_assets.reporting import report_sample

    name = context.partition_key
    with explained():
        summary = report_sample(store.layout, name)
        plot = base64.b64encode(score_histogram(store.layout.predictions(name))).decode()
    return dg.MaterializeResult(
        metadata={
            "model": summary.model,
            "page": dg.MetadataValue.path(str(summary.path)),
            "page_bytes": summary.size,
            "scores": dg.MetadataValue.md(f"![virus scores](data:image/png;base64,{plot})"),
        }
    )
