"""The demo sample's calls beside its truth."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from virnuc_assets.classifier import result_files
from virnuc_assets.demo.sample import READ_LENGTH, TRUTH
from virnuc_assets.evaluation.truth import label_by_table, read_truth


def calls_by_truth(results: Path) -> pl.DataFrame:
    """How many records of each kind were called rightly, from the demo sample's results.

    Returns:
        One row each for contigs and reads, viral and other: kind, label, n, right, wrong, no_call.

    Raises:
        StoreError: the results are missing or damaged.
    """
    called = result_files.read_parquet(
        results / result_files.RECORDS, ["id", "length", "is_virus"]
    ).rename({"is_virus": "call"})
    samples = called.select("id", sample=pl.lit("demo"))
    labels = label_by_table(samples, read_truth(TRUTH), TRUTH)
    is_read = pl.col("length") <= READ_LENGTH
    right = pl.col("call") == pl.col("is_virus")
    return (
        called.join(labels, on="id", maintain_order="left")
        .group_by(
            pl.when(is_read).then(pl.lit("reads")).otherwise(pl.lit("contigs")).alias("kind"),
            pl.when("is_virus").then(pl.lit("virus")).otherwise(pl.lit("other")).alias("label"),
            maintain_order=True,
        )
        .agg(
            n=pl.len(),
            right=right.sum(),
            wrong=(~right).sum(),
            no_call=pl.col("call").null_count(),
        )
    )
