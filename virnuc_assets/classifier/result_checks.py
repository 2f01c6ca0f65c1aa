"""Whether a sample's result files agree with each other and hold scores: plain comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from virnuc_assets.classifier import result_files as files
from virnuc_assets.classifier.calls import CALLED, NO_OPEN_FRAME, NOT_EMBEDDED

_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Reconciled:
    """Counts that were found in the tables, and what does not add up.

    `differing`: names of counts that differ from what `results.json` or the index says.
    `wrong_records`: records whose counts, score or call do not go with their chunks.
    """

    found: Mapping[str, int]
    differing: tuple[str, ...]
    wrong_records: int

    @property
    def adds_up(self) -> bool:
        """Nothing differs."""
        return not self.differing and not self.wrong_records


def reconcile(directory: Path, index: Mapping[str, int]) -> Reconciled:
    """Add frames up to chunks and chunks to records, and compare with all that states a count.

    Every record must have as many called and viral chunks as `chunks.parquet` has of it, and be
    viral when at least half of them are.

    Args:
        directory: a sample's results.
        index: what the index's manifest says of counts that `results.json` names, by that name.

    Raises:
        StoreError: a file is missing, damaged or of another version.
    """
    said = files.read_manifest(directory)["counts"]
    chunks = files.query(
        directory / files.CHUNKS,
        lambda table: table.group_by("record").agg(
            called=pl.len().cast(pl.Int64),
            viral=pl.col("is_virus").sum().cast(pl.Int64),
            frames=pl.col("n_frames").sum(),
        ),
    )
    records = files.query(directory / files.RECORDS, lambda table: table.drop("id", "best_frame"))
    frames = files.query(
        directory / files.FRAMES,
        lambda table: table.select(n=pl.len(), unscored=pl.col("score_virus").null_count()),
    ).row(0, named=True)
    found = {
        "n_records": len(records),
        "n_viral_records": int(records["is_virus"].sum()),
        "n_no_open_frame": int((records["status"] == NO_OPEN_FRAME).sum()),
        "n_not_embedded": int((records["status"] == NOT_EMBEDDED).sum()),
        "n_chunks": int(records["n_chunks"].sum()),
        "n_called_chunks": int(chunks["called"].sum()),
        "n_viral_chunks": int(chunks["viral"].sum()),
        "n_frames": frames["n"],
        "n_unscored_frames": frames["unscored"],
    }
    differing = [name for name, count in found.items() if count != said[name]]
    differing += [f"{name} of the index" for name, count in index.items() if count != said[name]]
    if int(chunks["frames"].sum()) != frames["n"] - frames["unscored"]:
        differing.append("scored frames of chunks")
    return Reconciled(found, tuple(differing), _wrong_records(records, chunks))


def wrong_scores(directory: Path) -> dict[str, int]:
    """How many frames, chunks and records have a score that is none.

    A scored frame's two must lie between 0 and 1 and add up to 1 (within 1e-5); a frame that was
    set aside has neither. Those of chunks and called records must lie between 0 and 1.

    Raises:
        StoreError: a file is missing or damaged.
    """
    two = ("score_other", "score_virus")
    both = pl.all_horizontal(*(_is_probability(score) for score in two))
    sum_is_one = (pl.col("score_other") + pl.col("score_virus") - 1).abs() <= _SUM_TOLERANCE
    set_aside = pl.all_horizontal(pl.col(two).is_null())
    record = pl.all_horizontal(_is_probability("score"), _is_probability("best_score"))
    right = {
        files.FRAMES: (both & sum_is_one) | set_aside,
        files.CHUNKS: both,
        files.RECORDS: record | (pl.col("status") != CALLED),
    }
    return {
        f"wrong_{name.removesuffix('.parquet')}": _count(directory / name, ~rule.fill_null(False))
        for name, rule in right.items()
    }


def _wrong_records(records: pl.DataFrame, chunks: pl.DataFrame) -> int:
    both = records.join(chunks, left_on="ordinal", right_on="record", how="full").with_columns(
        pl.col("called", "viral").fill_null(0)
    )
    has_call = pl.col("called") > 0
    right = (
        (pl.col("n_called_chunks") == pl.col("called"))
        & (pl.col("n_viral_chunks") == pl.col("viral"))
        & (pl.col("called") <= pl.col("n_chunks"))
        & ((pl.col("status") == CALLED) == has_call)
        & (pl.col("score").is_not_null() == has_call)
        & pl.col("is_virus").eq_missing(
            pl.when(has_call).then(2 * pl.col("viral") >= pl.col("called"))
        )
    )
    return int(both.select((~right.fill_null(False)).sum()).item())


def _is_probability(score: str) -> pl.Expr:
    # NaN is greater than any number in a comparison.
    return pl.col(score).is_between(0, 1) & pl.col(score).is_not_nan()


def _count(path: Path, rows: pl.Expr) -> int:
    return int(files.query(path, lambda table: table.select(rows.sum())).item())
