"""Scores and calls beside labels: the results of samples as tables of items to measure.

An item is a frame, a chunk or a record. Every table has is_virus and group (the label's), score
(P(virus), float64) and call (whether it was called virus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from virnuc_assets.classifier import calls, result_files
from virnuc_assets.evaluation.mask import masked_chunks

_LABEL = ["is_virus", "group"]


@dataclass(frozen=True)
class Scored:
    """What was called, and what is true of it."""

    frames: pl.DataFrame
    """Scored frames: is_virus, group, score, call (P(virus) > P(others))."""
    chunks: pl.DataFrame
    """Called chunks: is_virus, group, score (that of a record of this chunk alone), call."""
    records: pl.DataFrame
    """Records: id, length, status, is_virus, group, score and call (null without a call)."""
    n_chunks: int
    """Chunks of these records, called or not, that are not masked."""
    n_unscored_frames: int
    """Frames of chunks that are not masked which were set aside and have no score."""
    n_masked_chunks: int
    """Chunks left out by the mask, with a call or without."""
    n_masked_records: int
    """Records left out because the mask left none of their called chunks."""


def read_scored(
    results: Path, labels: pl.DataFrame, mask: pl.DataFrame | None, chunk_length: int
) -> Scored:
    """Read the results of one sample and put its labels beside them.

    Without a mask the records' scores and calls are those of the results. With one they are made
    again, by the same rules, from the chunks that it leaves.

    Args:
        results: a folder of results.
        labels: id, is_virus and group of every record of the sample.
        mask: what `mask.read_mask` returned.
        chunk_length: bases in a chunk of the results.

    Raises:
        StoreError: the results are missing or damaged.
    """
    records = result_files.read_parquet(
        results / result_files.RECORDS, ["ordinal", "id", "length", "n_chunks", "status"]
    )
    frames = result_files.read_parquet(
        results / result_files.FRAMES,
        ["ordinal", "record", "chunk", "name", "score_other", "score_virus"],
    )
    hidden = pl.DataFrame(schema={"record": pl.Int64, "chunk": pl.Int64})
    if mask is not None:
        hidden = masked_chunks(records, mask, chunk_length)
        frames = frames.join(hidden, on=["record", "chunk"], how="anti")
    scored = frames.drop_nulls("score_virus")
    chunks = calls.call_chunks(scored)
    # Whether a record has open frames is known from its status; how many does not matter here.
    index = records.with_columns(n_frames=(pl.col("status") != calls.NO_OPEN_FRAME).cast(pl.Int64))
    called = calls.call_records(index.drop("status"), chunks).with_columns(index["status"])
    is_hidden = pl.col("ordinal").is_in(hidden["record"].implode())
    emptied = called.filter(is_hidden & pl.col("is_virus").is_null())
    kept = called.join(emptied, on="ordinal", how="anti", maintain_order="left")
    label_of = records.select(pl.col("ordinal").alias("record"), "id").join(
        labels.select("id", *_LABEL), on="id", maintain_order="left"
    )
    return Scored(
        frames=_labelled(
            scored.select(
                "record",
                score=pl.col("score_virus").cast(pl.Float64),
                call=pl.col("score_virus") > pl.col("score_other"),
            ),
            label_of,
        ).select(*_LABEL, "score", "call"),
        chunks=_labelled(
            chunks.select(
                "record",
                score=pl.Series(calls.logistic(calls.chunk_log_odds(chunks)), dtype=pl.Float64),
                call="is_virus",
            ),
            label_of,
        ).select(*_LABEL, "score", "call"),
        records=_labelled(
            kept.select(
                "length", "status", "score", record=pl.col("ordinal"), call=pl.col("is_virus")
            ),
            label_of,
        ).select("id", "length", "status", *_LABEL, "score", "call"),
        n_chunks=int(records["n_chunks"].sum()) - len(hidden),
        n_unscored_frames=len(frames) - len(scored),
        n_masked_chunks=len(hidden),
        n_masked_records=len(emptied),
    )


def together(parts: Sequence[Scored]) -> Scored:
    """The items of several samples, at least one, as those of one."""
    return Scored(
        frames=pl.concat([part.frames for part in parts]),
        chunks=pl.concat([part.chunks for part in parts]),
        records=pl.concat([part.records for part in parts]),
        n_chunks=sum(part.n_chunks for part in parts),
        n_unscored_frames=sum(part.n_unscored_frames for part in parts),
        n_masked_chunks=sum(part.n_masked_chunks for part in parts),
        n_masked_records=sum(part.n_masked_records for part in parts),
    )


def _labelled(items: pl.DataFrame, label_of: pl.DataFrame) -> pl.DataFrame:
    return items.join(label_of, on="record", maintain_order="left")
