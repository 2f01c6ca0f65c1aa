"""`virnuc explain`: a record's call, and where every number of it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from virnuc_assets import console
from virnuc_assets.errors import as_size
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout

if TYPE_CHECKING:
    from virnuc_assets.explanation_parts import Chunk, Explanation

_MOST_CHUNKS = 40


def explain(
    sample: Annotated[
        str, typer.Argument(help="A sample of the platform, or a folder that virnuc predict wrote.")
    ],
    record: Annotated[str, typer.Argument(help="A record's id, or a chunk's or frame's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a record's call, its chunks and frames, and where every number comes from."""
    from virnuc_assets import explanation

    layout, name = explanation.find_results(sample, Layout(from_environment().store))
    found = explanation.explain(layout, name, record)
    if as_json:
        console.plain(json.dumps(dataclasses.asdict(found), indent=2))
        return
    _show_call(found)
    _show_frames(found)
    _show_origin(found)
    _show_encoders(found)


def _show_call(found: Explanation) -> None:
    record = found.record
    call = {True: "virus", False: "other", None: f"no call ({record['status']})"}
    facts = {
        "call": call[record["is_virus"]],
        "score": None
        if record["score"] is None
        else f"{record['score']:.4f}, the logistic of the mean log-odds of its called chunks",
        "length": f"{record['length']:,} bases",
        "chunks": f"{record['n_chunks']:,}, of which {record['n_called_chunks']:,} have a call and "
        f"{record['n_viral_chunks']:,} are viral",
        "highest P(virus)": record["best_score"],
        "in frame": record["best_frame"],
        "model": found.model,
    }
    _facts(f"{found.sample}, record {record['id']}", facts)


def _show_frames(found: Explanation) -> None:
    listed = found.chunks[:_MOST_CHUNKS]
    console.table(
        "chunks and their stop-free frames; * is a chunk's best frame",
        (
            "chunk",
            "bases",
            "call",
            "log-odds",
            "frame",
            "P(virus)",
            "P(other)",
            "rows: DNA, protein",
        ),
        (line for chunk in listed for line in _chunk_lines(chunk)),
        right=("chunk", "log-odds", "P(virus)", "P(other)"),
    )
    if left := len(found.chunks) - len(listed):
        console.result(f"… and {left:,} more chunks; --json gives all of them")


def _chunk_lines(chunk: Chunk) -> Iterator[tuple[str, ...]]:
    call = {True: "virus", False: "other", None: "no call"}[chunk.is_virus]
    odds = "" if chunk.log_odds is None else f"{chunk.log_odds:+.3f}"
    head = (str(chunk.chunk), f"{chunk.first_base:,}–{chunk.last_base:,}", call, odds)
    if not chunk.frames:
        yield (*head, "no stop-free frame", "", "", "")
    for frame in chunk.frames:
        scores = (
            "set aside" if score is None else f"{score:.6f}"
            for score in (frame.score_virus, frame.score_other)
        )
        star = "*" if frame.is_best else ""
        yield (*head, frame.frame + star, *scores, f"{frame.nucleotide_row}, {frame.protein_row}")
        head = ("", "", "", "")


def _show_origin(found: Explanation) -> None:
    origin = found.origin
    _facts(
        "where it comes from",
        {
            "input": f"{origin.input} ({as_size(origin.input_bytes)})",
            "input SHA-256": origin.input_sha256,
            "index digest": origin.index_digest,
            "chunk length": f"{origin.chunk_length} bases",
            "head": origin.head,
            "head digest": origin.head_digest,
            "virnuc_assets": origin.tool_version
            if origin.tool_version == origin.index_tool_version
            else f"{origin.tool_version}, index by {origin.index_tool_version}",
            "results": origin.results,
            **{f"{name} SHA-256": sha256 for name, sha256 in origin.results_files.items()},
        },
    )


def _show_encoders(found: Explanation) -> None:
    for encoder in found.encoders:
        facts: dict[str, object] = {
            name.replace("_", " "): value
            for name, value in dataclasses.asdict(encoder).items()
            if name not in ("encoder", "shards")
        }
        for shard in encoder.shards:
            rows = "1 row" if shard.rows == 1 else f"{shard.rows:,} rows"
            facts[shard.file] = f"{rows} of this record; SHA-256 of its embeddings {shard.sha256}"
        _facts(f"{encoder.encoder} embeddings", facts)


def _facts(title: str, facts: dict[str, object]) -> None:
    console.table(title, ("what", "found"), ((n, console.shown(v)) for n, v in facts.items()))
