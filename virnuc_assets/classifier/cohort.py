"""A cohort: the key figures of all samples' results, and which samples stand out.

A sample stands out in a figure when it lies far from the other samples of the same model and chunk
length: by a modified z-score over 3.5 (Iglewicz and Hoaglin 1993, How to Detect and Handle
Outliers), which is 0.6745 (x − median) / MAD with MAD the median of |x − median|, or
(x − median) / (1.2533 mean |x − median|) where MAD is 0. And by more than a person would pass over:
two percentage points, 0.02 in a score, or a factor of two in the number of records. Fewer than
eight samples are not compared. All is read from the small `results.json` of each sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from virnuc_assets.classifier import result_files
from virnuc_assets.errors import StoreError

MOST_Z = 3.5
FEWEST_SAMPLES = 8
_TO_MAD, _TO_MEAN_DEVIATION = 0.6745, 1.2533

COMPARED: Mapping[str, float] = {
    "records": float(np.log10(2)),
    "viral_share": 0.02,
    "not_callable_share": 0.02,
    "unique_share": 0.02,
    "median_score": 0.02,
}
"""Figures that samples are compared by, and the least difference that stands out; records by their
decimal logarithm."""

_KIND = ["model", "chunk_length"]
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "sample": pl.String,
    "records": pl.Int64,
    "bases": pl.Int64,
    "chunks": pl.Int64,
    "frames": pl.Int64,
    "called_records": pl.Int64,
    "viral_records": pl.Int64,
    "viral_share": pl.Float64,
    "not_callable_share": pl.Float64,
    "unique_share": pl.Float64,
    "median_score": pl.Float64,
    "model": pl.String,
    "chunk_length": pl.String,
    "precision": pl.String,
    "finished": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True)
class Cohort:
    """The samples that have results, and those whose results cannot be read.

    `table`: one row a sample, by name: its figures, and `stands_out` (the figures it stands out in,
    comma-separated, or null). `unread`: a sentence a sample.
    """

    table: pl.DataFrame
    unread: tuple[str, ...]

    @property
    def outliers(self) -> pl.DataFrame:
        """The rows of samples that stand out."""
        return self.table.drop_nulls("stands_out")


def key_figures(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a sample from its `results.json`.

    `viral_share` is of the records that have a call, `not_callable_share` of all records, and
    `unique_share` is unique sequences over all, of both tables: the share that was embedded. None
    where there is nothing to take a share of.
    """
    counts, said = manifest["counts"], manifest["provenance"]
    records, frames = counts["n_records"], counts["n_frames"]
    called = records - counts["n_no_open_frame"] - counts["n_not_embedded"]
    unique = counts["n_unique_nucleotides"] + counts["n_unique_proteins"]
    return {
        "records": records,
        "bases": counts["n_bases"],
        "chunks": counts["n_chunks"],
        "frames": frames,
        "called_records": called,
        "viral_records": counts["n_viral_records"],
        "viral_share": counts["n_viral_records"] / called if called else None,
        "not_callable_share": 1 - called / records,
        "unique_share": unique / (2 * frames) if frames else None,
        "median_score": manifest["median_score"],
        "model": manifest["model"],
        "chunk_length": said.get("chunk_length"),
        "precision": _precision(said),
    }


def read_cohort(results: Mapping[str, Path]) -> Cohort:
    """Read the figures of samples from their folders of results, by sample.

    A folder without results is left out: the sample is on its way. One whose results are damaged,
    or of another version, is told.
    """
    rows: list[dict[str, Any]] = []
    unread: list[str] = []
    for sample, folder in sorted(results.items()):
        path = folder / result_files.MANIFEST
        try:
            finished = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            figures = key_figures(result_files.read_manifest(folder))
        except FileNotFoundError:
            continue
        except StoreError as error:
            unread.append(str(error))
            continue
        except (KeyError, TypeError) as error:
            unread.append(f"{path}: does not hold what it should ({error!r}); make it again")
            continue
        rows.append({"sample": sample, **figures, "finished": finished})
    return Cohort(mark_outliers(pl.DataFrame(rows, schema=_SCHEMA, orient="row")), tuple(unread))


def mark_outliers(table: pl.DataFrame) -> pl.DataFrame:
    """Add `stands_out` to a table of figures, one row a sample."""
    marks: list[list[str]] = [[] for _ in range(len(table))]
    places = table.select(*_KIND, *COMPARED).with_row_index("place")
    for _, group in places.group_by(_KIND, maintain_order=True):
        for figure in COMPARED:
            known = group.drop_nulls(figure)
            if len(known) < FEWEST_SAMPLES:
                continue
            values = scale(figure, known[figure].to_numpy())
            for place in known["place"].to_numpy()[stands_out(figure, values, values)].tolist():
                marks[place].append(figure)
    column = pl.Series("stands_out", [", ".join(mark) or None for mark in marks], pl.String)
    return table.with_columns(column)


def drift(table: pl.DataFrame, sample: str, figures: Mapping[str, Any]) -> dict[str, float] | None:
    """How far a sample's figures lie from the other samples', where they stand out.

    Returns:
        Modified z-scores by figure; None where there are too few samples to compare with.
    """
    others = table.filter(
        pl.col("sample") != sample, *(pl.col(name) == figures[name] for name in _KIND)
    )
    if len(others) < FEWEST_SAMPLES:
        return None
    found = {}
    for figure in COMPARED:
        cohort = others[figure].drop_nulls().to_numpy()
        if figures[figure] is None or len(cohort) < FEWEST_SAMPLES:
            continue
        value = scale(figure, np.array([figures[figure]], np.float64))
        cohort = scale(figure, cohort)
        if stands_out(figure, value, cohort)[0]:
            found[figure] = float(modified_z(value, cohort)[0])
    return found


def scale(figure: str, values: np.ndarray) -> np.ndarray:
    """The values of a figure as they are compared."""
    return np.log10(values) if figure == "records" else values


def stands_out(figure: str, values: np.ndarray, cohort: np.ndarray) -> np.ndarray:
    """Which of scaled `values` (n,) stand out among those of a cohort (m,); bool (n,)."""
    far = np.abs(values - np.median(cohort)) > COMPARED[figure]
    return far & (np.abs(modified_z(values, cohort)) > MOST_Z)


def modified_z(values: np.ndarray, cohort: np.ndarray) -> np.ndarray:
    """Modified z-scores (n,) of `values` (n,) in a cohort (m,); see the module.

    Infinite for what differs where all of the cohort is alike.
    """
    median = np.median(cohort)
    off = np.abs(cohort - median)
    spread = np.median(off) / _TO_MAD or off.mean() * _TO_MEAN_DEVIATION
    away = values - median
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(away == 0, 0.0, away / spread)


def _precision(said: Mapping[str, str]) -> str:
    dna, protein = (said.get(f"{prefix}_dtype", "not stated") for prefix in ("dnabert_s", "esm2"))
    return dna if dna == protein else f"ESM-2 {protein}, DNABERT-S {dna}"
