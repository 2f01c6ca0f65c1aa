"""Writes an evaluation: `metrics.json`, `metrics.tsv` and one page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from virnuc_assets import __version__
from virnuc_assets.classifier.calls import NO_OPEN_FRAME, NOT_EMBEDDED
from virnuc_assets.evaluation.evaluate import (
    ALL,
    AS_OTHER,
    GROUPS,
    LEFT_OUT,
    OURS,
    measure_levels,
    measure_tools,
    record_levels,
    with_no_call_as_other,
)
from virnuc_assets.evaluation.scored import Scored
from virnuc_assets.mini.bundled import note_on
from virnuc_assets.store.atomic import atomic_path, write_json

JSON, TSV, PAGE = "metrics.json", "metrics.tsv", "evaluation.html"
_SCHEMA = 1


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated, and with what."""

    title: str
    model: str
    chunk_length: int
    scored: Scored
    tools: Mapping[str, pl.DataFrame]
    """Other tools' calls by name, as `other_calls.read_calls` gives them."""
    provenance: Mapping[str, str]
    """Files and digests that the numbers come from, by what they are."""


def write_evaluation(output: Path, evaluated: Evaluated) -> pl.DataFrame:
    """Measure and write the three files into `output`; the same input gives the same bytes.

    Returns:
        The rows of `metrics.tsv`.

    Raises:
        StoreError: a file cannot be written.
    """
    scored = evaluated.scored
    rows = measure_levels(scored)
    if evaluated.tools:
        rows = pl.concat([rows, measure_tools(scored.records, evaluated.tools)])
    rows = rows.select(pl.lit(evaluated.chunk_length).alias("chunk_length"), *rows.columns)
    counts = _counts(scored)
    write_json(
        output / JSON,
        {
            "schema": _SCHEMA,
            "version": __version__,
            "model": evaluated.model,
            "chunk_length": evaluated.chunk_length,
            "counts": counts,
            "provenance": dict(evaluated.provenance),
            "metrics": rows.to_dicts(),
        },
    )
    with atomic_path(output / TSV) as temporary:
        rows.write_csv(temporary, separator="\t", float_precision=6)
    with atomic_path(output / PAGE) as temporary:
        temporary.write_text(_page(evaluated, rows, counts), encoding="utf-8")
    return rows


def headline(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows over all groups in which groups weigh the same, records without a call left out.

    Of other tools, for which no record is left out, those in which it counts as other.
    """
    over_all = (pl.col("label") == ALL) & (pl.col("weight") == GROUPS)
    ours = (pl.col("tool") == OURS) & (pl.col("no_call") == LEFT_OUT)
    return rows.filter(over_all & (ours | (pl.col("tool") != OURS)))


def _counts(scored: Scored) -> dict[str, int]:
    records = scored.records
    return {
        "n_records": len(records),
        "n_virus_records": int(records["is_virus"].sum()),
        "n_no_open_frame": int((records["status"] == NO_OPEN_FRAME).sum()),
        "n_not_embedded": int((records["status"] == NOT_EMBEDDED).sum()),
        "n_masked_records": scored.n_masked_records,
        "n_chunks": scored.n_chunks,
        "n_chunks_without_call": scored.n_chunks - len(scored.chunks),
        "n_masked_chunks": scored.n_masked_chunks,
        "n_frames": len(scored.frames),
        "n_unscored_frames": scored.n_unscored_frames,
    }


def _page(evaluated: Evaluated, rows: pl.DataFrame, counts: dict[str, int]) -> str:
    from jinja2 import Environment

    from virnuc_assets.evaluation.page import PAGE_TEMPLATE

    ours = rows.filter(pl.col("tool") == OURS)
    environment = Environment(autoescape=True)
    environment.filters["metric"] = _as_text
    return environment.from_string(PAGE_TEMPLATE).render(
        title=evaluated.title,
        model=evaluated.model,
        note=note_on(evaluated.model),
        version=__version__,
        chunk_length=evaluated.chunk_length,
        counts=counts,
        headline={row["level"]: row for row in headline(ours).to_dicts()},
        overall=ours.filter(pl.col("label") == ALL).to_dicts(),
        groups=_by_group(ours),
        tools=_compared(rows) if evaluated.tools else [],
        figures=_figures(evaluated),
        provenance=evaluated.provenance,
    )


def _as_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _by_group(ours: pl.DataFrame) -> list[dict[str, Any]]:
    """One row a group, with its metrics at every level by the level's name."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    single = ours.filter((pl.col("label") != ALL) & (pl.col("no_call") == LEFT_OUT))
    # A group may have no item at a level, and then has no row there.
    nothing = {level: dict.fromkeys(ours.columns) for level in ours["level"].unique()}
    for row in single.to_dicts():
        names = {"label": row["label"], "group": row["group"]}
        groups.setdefault((row["label"], row["group"]), names | nothing)[row["level"]] = row
    return list(groups.values())


def _compared(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """All tools on all records; a record without a call counts as other."""
    over_all = (pl.col("label") == ALL) & (pl.col("weight") == GROUPS)
    return rows.filter(over_all & (pl.col("no_call") == AS_OTHER)).sort("level").to_dicts()


def _figures(evaluated: Evaluated) -> dict[str, str | None]:
    from virnuc_assets.evaluation import figures

    scored = evaluated.scored
    called = scored.records.drop_nulls("call")
    long = dict(record_levels(called))["records_3kb"]
    items = {
        "frames": scored.frames,
        "chunks": scored.chunks,
        "records": called,
        "records of 3 kb and more": long,
    }
    for name, calls in evaluated.tools.items():
        labels = scored.records.select("id", "is_virus", "group")
        items[name] = with_no_call_as_other(labels.join(calls, on="id", how="left"))
    both = {name: table for name, table in items.items() if table["is_virus"].n_unique() == 2}
    judged = {name: table for name, table in both.items() if name in ("frames", "chunks")}
    return {
        "curves": figures.curves(both) if both else None,
        "reliability": figures.reliability(judged) if judged else None,
        "groups": figures.scores_by_group(scored.chunks) if len(scored.chunks) else None,
    }
