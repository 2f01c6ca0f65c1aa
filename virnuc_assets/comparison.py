"""How far two results agree, item by item: frames and records, calls and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from virnuc_assets.classifier import result_files
from virnuc_assets.errors import InputError
from virnuc_assets.predecessor import call, read_frames

_FRAME = ["name", "score_virus", "score_other"]
_RECORD = ["id", "is_virus", "score"]


@dataclass(frozen=True)
class Result:
    """What is compared: frames and records as key, call (null: none) and score (P(virus))."""

    frames: pl.DataFrame
    records: pl.DataFrame


@dataclass(frozen=True)
class Agreement:
    """Of one level's items that both results have.

    `both_virus` … `both_other`: calls, where both have one. `kappa`: Cohen's (1960), the agreement
    beyond what these shares of calls give by chance; None where one class alone is called.
    `difference_*`: of scores, without sign. `correlation`: Pearson's, of scores; None where one
    side has one score alone.
    """

    level: str
    items: int
    only_first: int
    only_second: int
    both_virus: int
    only_first_virus: int
    only_second_virus: int
    both_other: int
    called_by_one: int
    same_call: float | None
    kappa: float | None
    difference_median: float | None
    difference_99_percent: float | None
    difference_largest: float | None
    correlation: float | None


def read_result(path: Path) -> Result:
    """The results in a folder, ours or imported, or the original's table.

    Raises:
        InputError: there are none.
        StoreError: they are damaged.
    """
    if (path / result_files.RECORDS).exists():
        frames = result_files.read_parquet(path / result_files.FRAMES, _FRAME)
        records = result_files.read_parquet(path / result_files.RECORDS, _RECORD)
        return Result(_items(frames), _keyed(records))
    table = path / result_files.ORIGINAL_FRAMES if path.is_dir() else path
    if not table.exists():
        raise InputError(
            f"{path}: holds no results; give a folder with {result_files.RECORDS} or "
            f"{result_files.ORIGINAL_FRAMES}, or such a table"
        )
    frames = read_frames(table)
    _, records = call(frames)
    return Result(_items(frames), _keyed(records))


def compare(first: Result, second: Result) -> tuple[Agreement, Agreement]:
    """How far two results agree on frames, and on records."""
    return (
        agreement("frames", first.frames, second.frames),
        agreement("records", first.records, second.records),
    )


def agreement(level: str, first: pl.DataFrame, second: pl.DataFrame) -> Agreement:
    """How far two tables of key, call and score agree; a key is in each at most once."""
    both = first.join(second, on="key", suffix="_second")
    called = both.drop_nulls(["call", "call_second"])
    a, b = called["call"].to_numpy(), called["call_second"].to_numpy()
    scored = both.drop_nulls(["score", "score_second"])
    x, y = (scored[column].to_numpy().astype(np.float64) for column in ("score", "score_second"))
    off = np.abs(x - y)
    return Agreement(
        level=level,
        items=len(both),
        only_first=len(first) - len(both),
        only_second=len(second) - len(both),
        both_virus=int((a & b).sum()),
        only_first_virus=int((a & ~b).sum()),
        only_second_virus=int((~a & b).sum()),
        both_other=int((~a & ~b).sum()),
        called_by_one=int((both["call"].is_null() != both["call_second"].is_null()).sum()),
        same_call=float((a == b).mean()) if len(a) else None,
        kappa=_kappa(a, b),
        difference_median=float(np.median(off)) if len(off) else None,
        difference_99_percent=float(np.quantile(off, 0.99)) if len(off) else None,
        difference_largest=float(off.max()) if len(off) else None,
        correlation=_correlation(x, y),
    )


def disagreements(first: Result, second: Result, most: int) -> pl.DataFrame:
    """Records that one result calls virus and the other not, the furthest apart first.

    Returns:
        id, call and score of the first and of the second; at most `most` rows.
    """
    both = first.records.join(second.records, on="key", suffix="_second", maintain_order="left")
    apart = both.filter(pl.col("call") != pl.col("call_second"))
    off = (pl.col("score") - pl.col("score_second")).abs()
    return apart.sort(off, descending=True, maintain_order=True).head(most).rename({"key": "id"})


def _items(frames: pl.DataFrame) -> pl.DataFrame:
    return frames.drop_nulls("score_virus").select(
        key="name", call=pl.col("score_virus") > pl.col("score_other"), score="score_virus"
    )


def _keyed(records: pl.DataFrame) -> pl.DataFrame:
    return records.select(key="id", call="is_virus", score="score")


def _kappa(a: np.ndarray, b: np.ndarray) -> float | None:
    if not len(a):
        return None
    by_chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float(((a == b).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else None


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])
