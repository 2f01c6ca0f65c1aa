"""One page about a sample that a person reads: calls, scores, what could not be called, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virnuc_assets.classifier import report_tables as tables
from virnuc_assets.classifier import result_files as files
from virnuc_assets.classifier.words import as_bases, as_count, as_duration, as_share
from virnuc_assets.errors import as_size
from virnuc_assets.mini.bundled import note_on
from virnuc_assets.store.atomic import atomic_path

PAGE = "report.html"
_TOP_RECORDS = 25
_LISTED_UNCALLED = 20
_DRAWN_CONTIGS = 8


@dataclass(frozen=True)
class EmbeddingRun:
    """The last run that embedded for a sample with one encoder.

    `sequences`, `tokens`: of this run; earlier ones may have done the others. `busy_share`: of the
    time that GPUs computed over the time they could have. None: not measured there.
    """

    encoder: str
    started: str
    seconds: float
    sequences: int
    tokens: int
    tokens_per_second: float | None
    packing_efficiency: float | None
    busy_share: float | None
    n_devices: int
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class ReportSummary:
    """Where the page is, how large it is, and which model it is about."""

    path: Path
    size: int
    model: str


def write_report(
    prediction_dir: Path, output_dir: Path, title: str, runs: Sequence[EmbeddingRun] = ()
) -> ReportSummary:
    """Write `report.html` about the results in `prediction_dir`: one file that needs no other.

    The same results and runs give the same bytes. Its size depends on the longest ids, not on the
    number of records.

    Raises:
        StoreError: the results are missing, incomplete or damaged.
    """
    from jinja2 import Environment

    from virnuc_assets.classifier.report_page import PAGE_TEMPLATE

    manifest = files.read_manifest(prediction_dir)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": as_count,
        "bases": as_bases,
        "share": as_share,
        "duration": as_duration,
        "size": as_size,
    }
    page = environment.from_string(PAGE_TEMPLATE).render(
        title=title,
        model=manifest["model"],
        note=note_on(manifest["model"]),
        counts=manifest["counts"],
        median_score=manifest["median_score"],
        top=tables.top_viral(prediction_dir, _TOP_RECORDS).to_dicts(),
        uncalled=tables.uncalled(prediction_dir, _LISTED_UNCALLED),
        encoders=_encoders(manifest, runs),
        on_gpu=any(run.peak_memory_bytes for run in runs),
        provenance=_provenance(manifest),
        files=manifest["files"],
        **_figures(prediction_dir),
    )
    path = output_dir / PAGE
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return ReportSummary(path=path, size=path.stat().st_size, model=manifest["model"])


def score_histogram(prediction_dir: Path) -> bytes:
    """A small PNG of the P(virus) of all frames, labelled with the model.

    Raises:
        StoreError: the results are missing, incomplete or damaged.
    """
    from virnuc_assets.classifier import figures

    manifest = files.read_manifest(prediction_dir)
    return figures.score_overview(tables.frame_histogram(prediction_dir), manifest["model"])


def _figures(prediction_dir: Path) -> dict[str, Any]:
    from virnuc_assets.classifier import figures

    frames = tables.frame_histogram(prediction_dir)
    records = files.read_parquet(prediction_dir / files.RECORDS, ["length", "is_virus", "score"])
    viral = tables.top_viral(prediction_dir, _DRAWN_CONTIGS, more_than_chunks=1)
    longest = tables.longest(prediction_dir, _DRAWN_CONTIGS, but=viral["ordinal"].to_list())
    strips = {"viral": viral, "longest": longest}
    return {
        "lengths": tables.length_summary(records["length"].to_numpy()),
        "figures": {
            "scores": figures.scores_by_frame(frames) if len(frames) else None,
            "records": figures.records(records),
            **{
                name: figures.calls_along(table, tables.chunk_scores(prediction_dir, table))
                for name, table in strips.items()
                if len(table)
            },
        },
    }


def _encoders(manifest: dict[str, Any], runs: Sequence[EmbeddingRun]) -> list[dict[str, Any]]:
    """What each encoder's embeddings were made with, and the run that made them, where known."""
    said, counts = manifest["provenance"], manifest["counts"]
    known = {run.encoder: run for run in runs}
    parts = (
        ("DNABERT-S", "dnabert-s", "dnabert_s", counts["n_unique_nucleotides"]),
        ("ESM-2", "esm2", "esm2", counts["n_unique_proteins"]),
    )
    about = ("model", "device", "dtype", "attention", "engine", "token_budget")
    return [
        {
            "title": title,
            "n_unique": n_unique,
            **{name: said.get(f"{prefix}_{name}", "not stated") for name in about},
            "run": known.get(encoder),
        }
        for title, encoder, prefix, n_unique in parts
    ]


def _provenance(manifest: dict[str, Any]) -> dict[str, Any]:
    head = {f"head {key}".replace("_", " "): value for key, value in manifest["head"].items()}
    rows = {"virnuc_assets": manifest["version"], **manifest["provenance"], **head}
    return {key: value for key, value in sorted(rows.items()) if value not in (None, "")}
