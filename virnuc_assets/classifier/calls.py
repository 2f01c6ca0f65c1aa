"""From frame scores to calls: the rules, and nothing else.

Frame (VirNucPro): virus when P(virus) > P(others); a tie is others.

Chunk (VirNucPro): viral when the highest P(virus) of its frames is at least the highest P(others)
of its frames. The two maxima may come from different frames. Its best frame is the one with the
highest P(virus), the first in the order F1 F2 F3 R1 R2 R3 where several have it.

Record (ours; VirNucPro stops at chunks): viral when at least half of its called chunks are viral,
a called chunk being one with a stop-free frame. A read of one chunk is thus what its chunk is, and
a chromosome with one prophage stays other. A record with no called chunk has no call (null), which
says neither virus nor other; its status says why: `no_open_frame`, or `not_embedded` where it has
stop-free frames and the encoders could embed none of them.

Record score (ours): by which records are ranked, whatever their length. A chunk's log-odds are
ln(highest P(virus) of its frames) − ln(highest P(others)), each probability taken as 1e-6 at least;
they are at least 0 where the chunk is viral. The record's score is the logistic function of their
mean over its called chunks. A record of one chunk thus has a score of at least one half if and only
if it is viral, and one of one frame has that frame's P(virus). Of longer records the call, which
counts chunks, and the score, which weighs them, may fall on different sides of one half. The
highest P(virus) (`best_score`) rises with the number of frames, and so with length; the score does
not. Nor do long records become surer: it ranks, and is no probability of theirs.
"""

from __future__ import annotations

import numpy as np
import polars as pl

CALLED = "called"
NO_OPEN_FRAME = "no_open_frame"
NOT_EMBEDDED = "not_embedded"
# A float32 softmax may be 0 exactly; no single chunk shall outweigh all others of a record.
_LEAST_PROBABILITY = 1e-6


def call_chunks(frames: pl.DataFrame) -> pl.DataFrame:
    """Call every chunk that has a scored frame.

    Args:
        frames: the scored ones: ordinal, record, chunk, name (chunk name and frame,
            `…_chunk_3R1`), score_other and score_virus (finite), in any order.

    Returns:
        One row per chunk in input order: name, record, chunk, n_frames, best_frame (that frame's
        name), score_other and score_virus (the maxima), is_virus.
    """
    # arg_max may return the last of equal maxima, so the first is looked up by equality.
    best = pl.col("score_virus") == pl.col("score_virus").max()
    return (
        frames.sort("ordinal")
        .group_by("record", "chunk", maintain_order=True)
        .agg(
            pl.col("name").first().str.head(-2).alias("chunk_name"),
            pl.len().cast(pl.Int64).alias("n_frames"),
            pl.col("name").filter(best).first().alias("best_frame"),
            pl.col("score_other").max(),
            pl.col("score_virus").max(),
        )
        .select(
            pl.col("chunk_name").alias("name"),
            "record",
            "chunk",
            "n_frames",
            "best_frame",
            "score_other",
            "score_virus",
            (pl.col("score_virus") >= pl.col("score_other")).alias("is_virus"),
        )
    )


def call_records(records: pl.DataFrame, chunks: pl.DataFrame) -> pl.DataFrame:
    """Call every record.

    Args:
        records: ordinal, id, length (bases), n_chunks and n_frames of the index.
        chunks: what `call_chunks` returned for their frames.

    Returns:
        Every record once, in the order of `records`: ordinal, id, length, n_chunks,
        n_called_chunks, n_viral_chunks, is_virus (null without a called chunk), score (in [0, 1],
        float64, null without a called chunk), best_score (the highest P(virus) of its frames, or
        null), best_frame (the first frame with that score, or null), status (`called`,
        `no_open_frame` or `not_embedded`).
    """
    best = pl.col("score_virus") == pl.col("score_virus").max()
    called = chunks.group_by("record", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n_called_chunks"),
        pl.col("is_virus").sum().cast(pl.Int64).alias("n_viral_chunks"),
        pl.col("score_virus").max().alias("best_score"),
        pl.col("best_frame").filter(best).first(),
    )
    # NumPy sums in the order of the chunks, so that the last bits do not depend on threads.
    sums = np.bincount(chunks["record"].to_numpy(), chunk_log_odds(chunks))
    mean = sums[called["record"].to_numpy()] / called["n_called_chunks"].to_numpy()
    called = called.with_columns(score=pl.Series(logistic(mean), dtype=pl.Float64))
    has_call = pl.col("n_called_chunks") > 0
    return (
        records.join(
            called, left_on="ordinal", right_on="record", how="left", maintain_order="left"
        )
        .with_columns(pl.col("n_called_chunks", "n_viral_chunks").fill_null(0))
        .select(
            "ordinal",
            "id",
            "length",
            "n_chunks",
            "n_called_chunks",
            "n_viral_chunks",
            pl.when(has_call)
            .then(2 * pl.col("n_viral_chunks") >= pl.col("n_called_chunks"))
            .alias("is_virus"),
            "score",
            "best_score",
            "best_frame",
            pl.when(has_call)
            .then(pl.lit(CALLED))
            .when(pl.col("n_frames") > 0)
            .then(pl.lit(NOT_EMBEDDED))
            .otherwise(pl.lit(NO_OPEN_FRAME))
            .alias("status"),
        )
    )


def chunk_log_odds(chunks: pl.DataFrame) -> np.ndarray:
    """The log-odds of chunks, shape (n,), float64, from their score_other and score_virus."""
    other, virus = (
        np.log(np.maximum(chunks[column].to_numpy().astype(np.float64), _LEAST_PROBABILITY))
        for column in ("score_other", "score_virus")
    )
    return virus - other


def logistic(log_odds: np.ndarray) -> np.ndarray:
    """The probabilities that log-odds stand for, of the same shape."""
    return 1 / (1 + np.exp(-log_odds))
