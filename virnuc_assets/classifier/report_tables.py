"""What a report says of a sample's results, in few rows whatever the sample's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from virnuc_assets.classifier import calls
from virnuc_assets.classifier import result_files as files
from virnuc_assets.classifier.calls import NO_OPEN_FRAME, NOT_EMBEDDED

SCORE_BINS = 40
"""Of equal width from 0 to 1."""

_CONTIG_COLUMNS = ["ordinal", "id", "length", "n_chunks", "is_virus", "score"]


def top_viral(prediction_dir: Path, rows: int, more_than_chunks: int = 0) -> pl.DataFrame:
    """The viral records with the highest scores, best first; all columns of `records.parquet`.

    Raises:
        StoreError: the file is missing or damaged.
    """
    return files.query(
        prediction_dir / files.RECORDS,
        lambda table: (
            table.filter(pl.col("is_virus") & (pl.col("n_chunks") > more_than_chunks))
            .sort("score", "length", "ordinal", descending=[True, True, False])
            .head(rows)
        ),
    )


def longest(prediction_dir: Path, rows: int, but: Sequence[int]) -> pl.DataFrame:
    """The longest records of several chunks, whose ordinals are not among `but`.

    Raises:
        StoreError: the file is missing or damaged.
    """
    return files.query(
        prediction_dir / files.RECORDS,
        lambda table: (
            table.filter((pl.col("n_chunks") > 1) & ~pl.col("ordinal").is_in(list(but)))
            .sort("length", "ordinal", descending=[True, False])
            .head(rows)
            .select(_CONTIG_COLUMNS)
        ),
    )


def chunk_scores(prediction_dir: Path, contigs: pl.DataFrame) -> pl.DataFrame:
    """The called chunks of `contigs`: record, chunk, and score, by which they are called.

    A chunk's score is that of a record of this one chunk: at least one half if it is viral.

    Raises:
        StoreError: the file is missing or damaged.
    """
    wanted = contigs["ordinal"].to_list()
    chunks = files.query(
        prediction_dir / files.CHUNKS,
        lambda table: table.filter(pl.col("record").is_in(wanted)),
    )
    scores = calls.logistic(calls.chunk_log_odds(chunks))
    return chunks.select("record", "chunk", score=pl.Series(scores))


def frame_histogram(prediction_dir: Path) -> pl.DataFrame:
    """How many scored frames lie in each bin of P(virus): frame (F1 to R3), bin, n.

    Raises:
        StoreError: the file is missing or damaged.
    """
    place = (pl.col("score_virus") * SCORE_BINS).floor().clip(0, SCORE_BINS - 1)
    return files.query(
        prediction_dir / files.FRAMES,
        lambda table: (
            table.drop_nulls("score_virus")
            .group_by("frame", place.cast(pl.Int64).alias("bin"))
            .agg(n=pl.len().cast(pl.Int64))
            .sort("frame", "bin")
        ),
    )


def uncalled(prediction_dir: Path, rows: int) -> dict[str, Any]:
    """Why records, and chunks of called records, have no call; the longest records without one.

    Raises:
        StoreError: the file is missing or damaged.
    """
    path = prediction_dir / files.RECORDS
    totals = files.query(
        path,
        lambda table: table.group_by("status").agg(
            n=pl.len(),
            bases=pl.col("length").sum(),
            without=(pl.col("n_chunks") - pl.col("n_called_chunks")).sum(),
        ),
    )
    by_status = {row["status"]: row for row in totals.to_dicts()}
    nothing = {"n": 0, "bases": 0, "without": 0}
    # The records that a fault kept from being called come before those that have nothing to call.
    listed = files.query(
        path,
        lambda table: (
            table.filter(pl.col("is_virus").is_null())
            .sort(pl.col("status") != NOT_EMBEDDED, -pl.col("length"), "ordinal")
            .head(rows)
            .select("id", "length", "n_chunks", "status")
        ),
    )
    return {
        NO_OPEN_FRAME: by_status.get(NO_OPEN_FRAME, nothing),
        NOT_EMBEDDED: by_status.get(NOT_EMBEDDED, nothing),
        "n_chunks_of_called": by_status.get(calls.CALLED, nothing)["without"],
        "listed": listed.to_dicts(),
    }


def length_summary(lengths: np.ndarray) -> dict[str, float]:
    """Median, greatest and N50 of `lengths` (n,), n at least 1, in bases.

    N50: the length of the record in which half of all bases are reached, longest first.
    """
    falling = np.sort(lengths)[::-1]
    half = np.searchsorted(np.cumsum(falling), lengths.sum() / 2)
    return {
        "median": float(np.median(lengths)),
        "longest": float(falling[0]),
        "n50": float(falling[half]),
    }
