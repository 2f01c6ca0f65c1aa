"""What a head makes of labelled frames, as tables of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from virnuc_assets.classifier.head import Head
from virnuc_assets.evaluation.evaluate import ALL, GROUPS, measure_groups
from virnuc_assets.training.features import Features, in_order
from virnuc_assets.training.labelled import Split

_SCORED_FRAMES = 1 << 13


def score_part(features: Features, part: Split, head: Head) -> pl.DataFrame:
    """Score the frames of a split with a head as it was saved; masked ones of the test part too.

    Returns:
        A row a frame: is_virus, group, chunk_length, masked, score (P(virus), float64) and call
        (P(virus) > P(others)).
    """
    frames = features.frames
    rows = frames.part(part)
    split = features.dims[0]
    scores = [
        head.score(values[:, :split], values[:, split:])
        for values in in_order(features, rows, _SCORED_FRAMES)
    ]
    score = np.concatenate([np.empty((0, 2), np.float32), *scores])
    return pl.DataFrame(
        {
            "is_virus": frames.is_virus[rows],
            "group": pl.Series(frames.group_names(rows), dtype=pl.String),
            "chunk_length": frames.chunk_length[rows],
            "masked": frames.masked[rows],
            "score": score[:, 1].astype(np.float64),
            "call": score[:, 1] > score[:, 0],
        }
    )


def measure_parts(scored: Mapping[Split, pl.DataFrame]) -> pl.DataFrame:
    """Measure what `score_part` gave, by chunk length, with masked frames and without.

    Returns:
        The rows of `measure_groups` with, before them, part, chunk_length and masked (`kept`, or
        `left out`: only where there are any).
    """
    tables: list[pl.DataFrame] = []
    for part, of_part in scored.items():
        for (length,), frames in of_part.group_by("chunk_length", maintain_order=True):
            tables.append(_measured(part, length, "kept", frames))
            if frames["masked"].any():
                tables.append(_measured(part, length, "left out", frames.filter(~pl.col("masked"))))
    return pl.concat(tables)


def headline(metrics: pl.DataFrame) -> pl.DataFrame:
    """Of the rows of `measure_parts`, those over all groups alike, masked frames with the rest."""
    return metrics.filter(masked="kept", label=ALL, weight=GROUPS)


def _measured(part: Split, chunk_length: Any, masked: str, frames: pl.DataFrame) -> pl.DataFrame:
    return measure_groups(frames).select(
        pl.lit(part).alias("part"),
        pl.lit(chunk_length, pl.Int32).alias("chunk_length"),
        pl.lit(masked).alias("masked"),
        pl.all(),
    )
