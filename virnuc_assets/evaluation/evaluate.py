"""Tables of metrics: frames, chunks and records, over all and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from virnuc_assets.evaluation.metrics import balanced_weights, measure, measure_calls
from virnuc_assets.evaluation.scored import Scored
from virnuc_assets.evaluation.tables import OTHER, VIRUS

LONG = 3000
"""Bases from which a record counts as long (`records_3kb`)."""
ALL = "all"
ITEMS, GROUPS = "items", "groups"
LEFT_OUT, AS_OTHER = "left out", "as other"
OURS = "virnuc"

_SCORE_COLUMNS = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
_CALL_COLUMNS = ("call_recall", "call_false_positive_rate", "call_precision", "call_mcc")
_SCHEMA: dict[str, Any] = {
    "label": pl.String,
    "group": pl.String,
    "weight": pl.String,
    "n": pl.Int64,
    "n_virus": pl.Int64,
    **dict.fromkeys((*_SCORE_COLUMNS, *_CALL_COLUMNS), pl.Float64),
}


def measure_groups(items: pl.DataFrame) -> pl.DataFrame:
    """Measure items over all and by group.

    Args:
        items: is_virus (bool), group (string), score (P(virus) in [0, 1]; a column of nulls where
            there are calls alone) and call (bool), one row an item. No other nulls.

    Returns:
        Rows of label, group, weight, n, n_virus, the metrics of the score (those of `Metrics`) and
        those of the call (those of `CallMetrics`, named call_…), null where a class has no item:

        * label and group `all`, weight `items`: every item counts once;
        * label and group `all`, weight `groups`: both classes weigh the same, and in each class
          every group does (`balanced_weights`);
        * where a class has several groups: of each, by name, its items against all items of the
          other class, weighted in the same way.
    """
    rows = [_row(items, ALL, ALL, ITEMS), _row(items, ALL, ALL, GROUPS)]
    rows += [_row(part, label, group, GROUPS) for label, group, part in _by_group(items)]
    return pl.DataFrame(rows, _SCHEMA)


def measure_levels(scored: Scored) -> pl.DataFrame:
    """Measure our frames, chunks and records.

    Returns:
        The rows of `measure_groups` with, before them, tool (`virnuc`), level (`frames`, `chunks`,
        `records` and `records_3kb`, those of at least 3 000 bases), no_call (`left out`, or
        `as other`: records without a call count as other, with a score of 0) and n_no_call, how
        many records that is about.
    """
    tables = [
        _at(OURS, "frames", LEFT_OUT, None, scored.frames),
        _at(OURS, "chunks", LEFT_OUT, scored.n_chunks - len(scored.chunks), scored.chunks),
    ]
    for level, records in record_levels(scored.records):
        called = records.drop_nulls("call")
        missing = len(records) - len(called)
        tables.append(_at(OURS, level, LEFT_OUT, missing, called))
        tables.append(_at(OURS, level, AS_OTHER, missing, with_no_call_as_other(records)))
    return pl.concat(tables)


def measure_tools(records: pl.DataFrame, tools: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Measure other tools' calls on our records; those that a tool does not call count as other.

    Args:
        records: id, length, is_virus and group.
        tools: name → id, call and score (`other_calls.read_calls`).

    Returns:
        Rows as of `measure_levels`.
    """
    labels = records.select("id", "length", "is_virus", "group")
    tables = []
    for name, given in tools.items():
        for level, mine in record_levels(labels.join(given, on="id", how="left")):
            missing = mine["call"].null_count()
            tables.append(_at(name, level, AS_OTHER, missing, with_no_call_as_other(mine)))
    return pl.concat(tables)


def record_levels(records: pl.DataFrame) -> tuple[tuple[str, pl.DataFrame], ...]:
    """The levels that records are measured at, and the records of each."""
    return ("records", records), ("records_3kb", records.filter(pl.col("length") >= LONG))


def with_no_call_as_other(records: pl.DataFrame) -> pl.DataFrame:
    """Records; those without a call get the call other and, if any has a score, the score 0."""
    filled = records.with_columns(pl.col("call").fill_null(False))
    has_scores = records["score"].null_count() < len(records)
    return filled.with_columns(pl.col("score").fill_null(0.0)) if has_scores else filled


def _at(
    tool: str, level: str, no_call: str, n_no_call: int | None, items: pl.DataFrame
) -> pl.DataFrame:
    return measure_groups(items).select(
        pl.lit(tool).alias("tool"),
        pl.lit(level).alias("level"),
        pl.lit(no_call).alias("no_call"),
        pl.lit(n_no_call, pl.Int64).alias("n_no_call"),
        *_SCHEMA,
    )


def _by_group(items: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    for is_virus, label in ((True, VIRUS), (False, OTHER)):
        mine = pl.col("is_virus") == is_virus
        groups = items.filter(mine)["group"].unique().sort()
        if len(groups) > 1:
            for group in groups:
                yield label, group, items.filter(~mine | (pl.col("group") == group))


def _row(items: pl.DataFrame, label: str, group: str, weight: str) -> dict[str, Any]:
    is_virus = items["is_virus"].to_numpy()
    row = {
        "label": label,
        "group": group,
        "weight": weight,
        "n": len(items),
        "n_virus": int(is_virus.sum()),
    }
    if row["n_virus"] in (0, len(items)):
        return row
    weights = weights_of(items) if weight == GROUPS else None
    call = measure_calls(is_virus, items["call"].to_numpy(), weights)
    row |= {f"call_{name}": value for name, value in asdict(call).items()}
    if items["score"].null_count() < len(items):
        row |= asdict(measure(is_virus, items["score"].to_numpy(), weights))
    return row


def weights_of(items: pl.DataFrame) -> np.ndarray:
    """The weights `groups` of items of both classes, shape (n,)."""
    # Numbers sort faster than strings.
    groups = items["group"].rank("dense").to_numpy()
    return balanced_weights(groups, items["is_virus"].to_numpy())
