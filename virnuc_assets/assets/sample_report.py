"""Predictions → a page a person reads."""

import base64

import dagster as dg

from virnuc_assets import __version__
from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.predictions import predictions
from virnuc_assets.automation import after_inputs
from virnuc_assets.classifier.report import score_histogram, write_report
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store


@dg.asset(
    partitions_def=samples,
    deps=[predictions],
    automation_condition=after_inputs,
    code_version=__version__,
    group_name="virnuc",
    kinds={"html", "matplotlib"},
)
def sample_report(context: dg.AssetExecutionContext, store: Store) -> dg.MaterializeResult:
    """One self-contained HTML page: calls, scores, what could not be called, provenance."""
    name = context.partition_key
    results = store.layout.predictions(name)
    with explained():
        summary = write_report(results, store.layout.report(name), title=name)
        plot = base64.b64encode(score_histogram(results)).decode()
    return dg.MaterializeResult(
        metadata={
            "model": summary.model,
            "page": dg.MetadataValue.path(str(summary.path)),
            "scores": dg.MetadataValue.md(f"![virus scores](data:image/png;base64,{plot})"),
        }
    )
