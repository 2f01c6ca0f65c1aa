"""One page about a sample that a person reads: calls, scores, what could not be called, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from virnuc_assets.classifier import result_files as files
from virnuc_assets.classifier.calls import CALLED, NO_OPEN_FRAME, NOT_EMBEDDED
from virnuc_assets.mini.bundled import note_on
from virnuc_assets.store.atomic import atomic_path, read_json

PAGE = "report.html"
_TOP_RECORDS = 25
_LISTED_UNCALLED = 50
_DRAWN_CONTIGS = 8
_RECORD_COLUMNS = [
    "ordinal",
    "id",
    "length",
    "n_chunks",
    "n_called_chunks",
    "n_viral_chunks",
    "is_virus",
    "best_score",
    "best_frame",
    "status",
    "model",
]


@dataclass(frozen=True)
class ReportSummary:
    """Where the page is and which model it is about."""

    path: Path
    model: str


def write_report(prediction_dir: Path, output_dir: Path, title: str) -> ReportSummary:
    """Write `report.html` about the results in `prediction_dir`: one file that needs no other.

    The same results give the same bytes.

    Raises:
        StoreError: the results are missing, incomplete or damaged.
    """
    from jinja2 import Environment

    from virnuc_assets.classifier.report_page import PAGE_TEMPLATE

    manifest = read_json(prediction_dir / files.MANIFEST)
    records = files.read_parquet(prediction_dir / files.RECORDS, _RECORD_COLUMNS)
    template = Environment(autoescape=True).from_string(PAGE_TEMPLATE)
    page = template.render(
        title=title,
        model=manifest["model"],
        note=note_on(manifest["model"]),
        counts=manifest["counts"],
        version=manifest["version"],
        figures=_figures(prediction_dir, records),
        top=_top_viral(records, _TOP_RECORDS),
        uncalled=_uncalled(prediction_dir, records),
        provenance=_provenance(manifest),
        files=manifest["files"],
    )
    path = output_dir / PAGE
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return ReportSummary(path=path, model=manifest["model"])


def top_viral_records(prediction_dir: Path, rows: int) -> list[dict[str, Any]]:
    """The viral records with the highest scores, best first.

    Raises:
        StoreError: the results are missing or damaged.
    """
    records = files.read_parquet(prediction_dir / files.RECORDS, _RECORD_COLUMNS)
    return _top_viral(records, rows)


def score_histogram(prediction_dir: Path) -> bytes:
    """A small PNG of the P(virus) of all frames, labelled with the model.

    Raises:
        StoreError: the results are missing, incomplete or damaged.
    """
    from virnuc_assets.classifier import figures

    manifest = read_json(prediction_dir / files.MANIFEST)
    frames = files.read_parquet(prediction_dir / files.FRAMES, ["score_virus"]).drop_nulls()
    return figures.score_overview(frames, manifest["model"])


def _figures(prediction_dir: Path, records: pl.DataFrame) -> dict[str, str | None]:
    from virnuc_assets.classifier import figures

    columns = ["frame", "score_virus"]
    frames = files.read_parquet(prediction_dir / files.FRAMES, columns).drop_nulls()
    chunks = files.read_parquet(prediction_dir / files.CHUNKS, ["record", "chunk", "score_virus"])
    contigs = (
        records.filter(pl.col("n_chunks") > 1)
        .sort("length", "ordinal", descending=[True, False])
        .head(_DRAWN_CONTIGS)
    )
    return {
        "scores": figures.scores_by_frame(frames) if len(frames) else None,
        "lengths": figures.record_lengths(records),
        "contigs": figures.calls_along(contigs, chunks) if len(contigs) else None,
    }


def _top_viral(records: pl.DataFrame, rows: int) -> list[dict[str, Any]]:
    return (
        records.filter(pl.col("is_virus"))
        .sort("best_score", "length", "ordinal", descending=[True, True, False])
        .head(rows)
        .to_dicts()
    )


def _uncalled(prediction_dir: Path, records: pl.DataFrame) -> dict[str, Any]:
    frames = files.read_parquet(prediction_dir / files.FRAMES, ["score_virus"])
    called = pl.col("status") == CALLED
    nothing = records.filter(~called)
    # The records that a fault kept from being called come before those that have nothing to call.
    listed = nothing.sort(pl.col("status") != NOT_EMBEDDED, -pl.col("length"), "ordinal").head(
        _LISTED_UNCALLED
    )
    in_called = records.filter(called)
    return {
        "n_records": len(nothing),
        "n_no_open_frame": int((records["status"] == NO_OPEN_FRAME).sum()),
        "n_not_embedded": int((records["status"] == NOT_EMBEDDED).sum()),
        "n_unscored_frames": frames["score_virus"].null_count(),
        "listed": listed.select("id", "length", "n_chunks", "status").to_dicts(),
        "n_chunks_in_called": int((in_called["n_chunks"] - in_called["n_called_chunks"]).sum()),
    }


def _provenance(manifest: dict[str, Any]) -> dict[str, Any]:
    head = {f"head {key}".replace("_", " "): value for key, value in manifest["head"].items()}
    rows = {"virnuc_assets": manifest["version"], **manifest["provenance"], **head}
    return {key: value for key, value in sorted(rows.items()) if value not in (None, "")}
