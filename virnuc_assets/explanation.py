"""One record's call with all that it was made of, back to the input file and the weights.

Nothing is computed again and no embedding is read: a call's own files say where it comes from, and
digests say whether the files beside them still are those.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from virnuc_assets.classifier import calls, result_files
from virnuc_assets.encoders.catalog import PREFIXES, EncoderName
from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.explanation_parts import Chunk, Encoder, Explanation, Frame, Origin, Shard
from virnuc_assets.sequences.chunks import chunk_records
from virnuc_assets.sequences.manifest import FRAMES_FILE, IndexManifest, read_manifest
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.digests import shards_digest
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import registered
from virnuc_assets.store.view import VIEW_FILE, View, read_view

_ROW_COLUMNS = {"dnabert-s": "nucleotide_row", "esm2": "protein_row"}
_OF_CHUNK = ("is_virus", "score_other", "score_virus", "log_odds")
_OF_FRAME = ("frame", "name", "score_other", "score_virus", *_ROW_COLUMNS.values())
# What chunks and frames of a record are called.
_PART = re.compile(r"(.+)_chunk_\d+(?:[FR][123])?")
_SUGGESTED = 3


def find_results(name: str, layout: Layout) -> tuple[Layout, str]:
    """The store and the sample that `name` means.

    Args:
        name: a sample of the store `layout`, or a folder: of results, or one that `virnuc predict`
            wrote and that holds the results of one sample.

    Raises:
        InputError: there is no such sample, or the folder holds several.
        StoreError: the sample has no results.
    """
    folder = Path(name)
    if (folder / result_files.MANIFEST).is_file():
        folder = folder.resolve()
        return Layout(folder.parent.parent), folder.name
    inside = sorted(folder.glob(f"predictions/*/{result_files.MANIFEST}"))
    if len(inside) > 1:
        listed = ", ".join(path.parent.name for path in inside[:5])
        raise InputError(
            f"{name}: holds the results of several samples ({listed}{', …' * (len(inside) > 5)}); "
            f"name one of their folders, such as {inside[0].parent}"
        )
    if inside:
        return Layout(folder.resolve()), inside[0].parent.name
    registered(layout, name)
    if not (layout.predictions(name) / result_files.MANIFEST).is_file():
        raise StoreError(
            f"sample {name}: has no results in {layout.predictions(name)}; materialise its "
            "predictions first"
        )
    return layout, name


def explain(layout: Layout, sample: str, record: str) -> Explanation:
    """Explain the call of a record of a sample whose results lie in `layout`.

    Args:
        layout: where results, index and embeddings lie.
        sample: the sample's name.
        record: the record's id, or the name of one of its chunks or frames.

    Raises:
        InputError: the sample has no such record.
        StoreError: results, index or embeddings are missing or damaged, or do not belong together
            any more.
    """
    results = layout.predictions(sample)
    said = result_files.read_manifest(results)
    manifest = _index_of(layout, sample, said["provenance"])
    views = {encoder: _view_of(layout, sample, encoder, said) for encoder in ENCODERS}
    row = _record_row(results, sample, record)
    frames = _frames(layout, sample, row["ordinal"])
    return Explanation(
        sample=sample,
        model=said["model"],
        record=row,
        chunks=_chunks(results, row, frames, manifest.chunk_length),
        origin=_origin(layout, sample, said, manifest),
        encoders=tuple(
            _encoder(
                encoder, said["provenance"], view, frames[_ROW_COLUMNS[encoder]].unique().to_numpy()
            )
            for encoder, view in views.items()
        ),
    )


def _index_of(layout: Layout, sample: str, provenance: dict[str, str]) -> IndexManifest:
    manifest = read_manifest(layout.index(sample))
    if manifest.index_digest != provenance["index_digest"]:
        raise StoreError(
            f"sample {sample}: its results are of another index than the one that is there now "
            "(its file or the chunk length has changed since); make its predictions again"
        )
    return manifest


def _view_of(layout: Layout, sample: str, encoder: EncoderName, said: dict[str, Any]) -> View:
    path = layout.embeddings(sample, encoder) / VIEW_FILE
    if not path.exists():
        raise StoreError(
            f"{path}: no such file, so the shards that the results come from cannot be named; make "
            "the sample's embeddings again"
        )
    view = read_view(path)
    if shards_digest(view.checksums) != said["provenance"][f"{PREFIXES[encoder]}_shards_digest"]:
        raise StoreError(
            f"sample {sample}: its results are of other {encoder} embeddings than those that are "
            "there now; make its predictions again"
        )
    return view


def _record_row(results: Path, sample: str, record: str) -> dict[str, Any]:
    path = results / result_files.RECORDS
    of_part = _PART.fullmatch(record)
    names = [record] if of_part is None else [record, of_part[1]]
    # A record may be called like another one's chunk; then it is the one that is meant.
    found = result_files.query(path, lambda table: table.filter(pl.col("id").is_in(names)))
    for name in names:
        if len(row := found.filter(id=name)):
            return row.row(0, named=True)
    like = result_files.query(
        path,
        lambda table: (
            table.select("id")
            .filter(pl.col("id").str.to_lowercase().str.contains(record.lower(), literal=True))
            .head(_SUGGESTED)
        ),
    )["id"].to_list()
    hint = f"it has {', '.join(like)}" if like else f"{path} lists the ids it has"
    raise InputError(
        f"sample {sample}: has no record {record!r}; give an id, which is a header up to its first "
        f"white space: {hint}"
    )


def _frames(layout: Layout, sample: str, ordinal: int) -> pl.DataFrame:
    """The record's frames in order, with their scores and their rows of the sequence tables."""

    def of_record(path: Path, columns: list[str]) -> pl.DataFrame:
        mine = pl.col("record") == ordinal
        return result_files.query(path, lambda table: table.filter(mine).select(columns))

    scores = of_record(
        layout.predictions(sample) / result_files.FRAMES,
        ["ordinal", "chunk", "frame", "name", "score_other", "score_virus"],
    )
    rows = of_record(layout.index(sample) / FRAMES_FILE, ["ordinal", *_ROW_COLUMNS.values()])
    return scores.join(rows, on="ordinal", how="left", maintain_order="left")


def _chunks(
    results: Path, row: dict[str, Any], frames: pl.DataFrame, chunk_length: int
) -> tuple[Chunk, ...]:
    called = result_files.query(
        results / result_files.CHUNKS,
        lambda table: table.filter(pl.col("record") == row["ordinal"]),
    )
    called = called.with_columns(log_odds=pl.Series(calls.chunk_log_odds(called)))
    by_number = {chunk["chunk"]: chunk for chunk in called.to_dicts()}
    frames_of: dict[int, list[dict[str, Any]]] = {}
    for frame in frames.to_dicts():
        frames_of.setdefault(frame["chunk"], []).append(frame)
    places = chunk_records(np.array([0, row["length"]], np.int64), chunk_length)
    spans = zip(places.number.tolist(), places.start.tolist(), places.stop.tolist(), strict=True)
    return tuple(
        _chunk(number, start, stop, by_number.get(number, {}), frames_of.get(number, []))
        for number, start, stop in spans
    )


def _chunk(
    number: int, start: int, stop: int, called: dict[str, Any], frames: list[dict[str, Any]]
) -> Chunk:
    return Chunk(
        chunk=number,
        first_base=start + 1,
        last_base=stop,
        **{name: called.get(name) for name in _OF_CHUNK},
        frames=tuple(
            Frame(
                is_best=frame["name"] == called.get("best_frame"),
                **{name: frame[name] for name in _OF_FRAME},
            )
            for frame in frames
        ),
    )


def _origin(layout: Layout, sample: str, said: dict[str, Any], manifest: IndexManifest) -> Origin:
    registration = layout.sample(sample)
    source = registered(layout, sample).source if registration.is_file() else manifest.input_name
    return Origin(
        input=source,
        input_bytes=manifest.input_bytes,
        input_sha256=manifest.input_sha256,
        tool_version=said["version"],
        index_tool_version=manifest.tool_version,
        index_digest=manifest.index_digest,
        chunk_length=manifest.chunk_length,
        head=said["head"]["name"],
        head_digest=said["head"]["digest"],
        results=str(layout.predictions(sample)),
        results_files={name: file["sha256"] for name, file in said["files"].items()},
    )


def _encoder(
    encoder: EncoderName, provenance: dict[str, str], view: View, rows: np.ndarray
) -> Encoder:
    prefix = PREFIXES[encoder]
    n_shards = len(view.shards)
    counts = np.bincount(rows % n_shards, minlength=n_shards).tolist()
    return Encoder(
        encoder=encoder,
        model=provenance[f"{prefix}_model"],
        weights_digest=provenance[f"{prefix}_weights_digest"],
        encoder_digest=provenance[f"{prefix}_encoder_digest"],
        precision=provenance[f"{prefix}_dtype"],
        backend=provenance[f"{prefix}_attention"],
        engine=provenance[f"{prefix}_engine"],
        device=provenance[f"{prefix}_device"],
        token_budget=int(provenance[f"{prefix}_token_budget"]),
        shards_digest=provenance[f"{prefix}_shards_digest"],
        shards=tuple(
            Shard(name, checksum, n)
            for name, checksum, n in zip(view.shards, view.checksums, counts, strict=True)
            if n
        ),
    )
