"""Leaving out chunks whose label is in doubt, such as prophages in bacterial genomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.tables import read_tsv
from virnuc_assets.sequences.chunks import chunk_records

_COLUMNS = ("record_id", "start0", "end")


def read_mask(path: Path) -> pl.DataFrame:
    """Read intervals of records: 0-based, half-open, in the record's bases as they are given.

    Returns:
        id (string), start and end (int64), in the file's order.

    Raises:
        InputError: the table cannot be used.
    """
    table = read_tsv(path, _COLUMNS)
    places = table.select(
        pl.col("record_id").alias("id"),
        pl.col("start0").cast(pl.Int64, strict=False).alias("start"),
        pl.col("end").cast(pl.Int64, strict=False),
    )
    valid = (pl.col("start") >= 0) & (pl.col("start") < pl.col("end"))
    wrong = places.with_row_index("line", 2).filter(~valid.fill_null(False))
    if len(wrong):
        raise InputError(
            f"{path}: line {wrong['line'][0]} is no interval; give start0 and end as whole numbers "
            "with 0 <= start0 < end"
        )
    return places


def masked_chunks(records: pl.DataFrame, mask: pl.DataFrame, chunk_length: int) -> pl.DataFrame:
    """The chunks of which intervals cover half or more, bases under several counted once.

    Args:
        records: ordinal, id and length of records.
        mask: what `read_mask` returned; records it names that are not there do not matter.

    Returns:
        record (an ordinal) and chunk (from 1), both int64.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    intervals = {str(name): rows for (name,), rows in mask.group_by("id")}
    for record in records.filter(pl.col("id").is_in(mask["id"].implode())).iter_rows(named=True):
        chunks = chunk_records(np.array([0, record["length"]]), chunk_length)
        covered = _covered(intervals[record["id"]], chunks.start, chunks.stop)
        numbers = chunks.number[2 * covered >= chunks.stop - chunks.start]
        found.append((np.full(numbers.size, record["ordinal"], np.int64), numbers))
    record_of, numbers = (np.concatenate(column) for column in zip(*found, strict=True))
    return pl.DataFrame({"record": record_of, "chunk": numbers})


def _covered(intervals: pl.DataFrame, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """How many bases of every span [start, stop) the union of `intervals` covers."""
    sorted_ = intervals.sort("start")
    low = sorted_["start"].to_numpy()
    high = np.maximum.accumulate(sorted_["end"].to_numpy())
    # Every interval without what an earlier one covers.
    low = np.maximum(low, np.concatenate([[0], high[:-1]]))
    high = np.maximum(high, low)
    before = np.concatenate([[0], np.cumsum(high - low)])

    def up_to(place: np.ndarray) -> np.ndarray:
        last = np.searchsorted(low, place, side="right") - 1
        inside = np.clip(place - low[last], 0, high[last] - low[last])
        return np.where(last < 0, 0, before[last] + inside)

    return up_to(stop) - up_to(start)
