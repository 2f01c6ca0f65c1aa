"""`virnuc import-run`: a run of VirNucPro or of a tool made from it, kept as our files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import polars as pl

from virnuc_assets import __version__
from virnuc_assets.classifier import result_files
from virnuc_assets.errors import InputError
from virnuc_assets.predecessor import (
    call,
    find_run,
    read_embeddings,
    read_frames,
    read_merged,
)
from virnuc_assets.store.atomic import atomic_path, write_json
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.hdf5 import new_hdf5
from virnuc_assets.store.seal import SEAL_BYTES, seal

IMPORTED = "imported.json"
"""What was imported, from which files; written last."""
MERGED = "merged.h5"
_SCHEMA = 1


@dataclass(frozen=True)
class Imported:
    """What a run came to. `frames`, `records`: None without a table of scores."""

    folder: Path
    frames: int | None
    records: int | None
    viral_records: int | None
    embeddings: dict[str, int]
    """Sequences in each HDF5 file written."""


def import_run(folder: Path, output: Path, model: str) -> Imported:
    """Write what `folder` holds to `output`, under the name `model`.

    Chunks and records are called again from the frames' scores, by our rules; the original has the
    same for chunks and none for records. A record without an open frame is in no file of the
    original's, so it is not here either.

    Raises:
        InputError: there is nothing to import, a file cannot be used, or `output` is in `folder`.
        StoreError: `output` cannot be written.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{output}: lies in the run's own folder; choose another output folder")
    run = find_run(folder)
    (output / IMPORTED).unlink(missing_ok=True)
    sources = {str(path.relative_to(folder)): sha256_file(path) for path in run.files}
    provenance = {"model": model, "imported_by": f"virnuc_assets {__version__}", **sources}
    frames = records = viral = None
    if run.table is not None:
        scored = read_frames(run.table)
        frames = len(scored)
        records, viral = _write_tables(output, scored, model, provenance)
    embeddings = {}
    if run.merged:
        features = map(read_merged, run.merged)
        embeddings[MERGED] = _write_embeddings(output / MERGED, features, provenance)
    for path in run.embeddings:
        parts = read_embeddings(path)
        name = "_".join(path.relative_to(folder).parts)
        if name in embeddings:
            raise InputError(
                f"{path}: would be {name}, as another file is; import its folder by itself"
            )
        embeddings[name] = _write_embeddings(output / name, parts, provenance)
    found = Imported(output, frames, records, viral, embeddings)
    write_json(
        output / IMPORTED,
        {
            "schema": _SCHEMA,
            "model": model,
            "tool_version": __version__,
            "sources": sources,
            "n_frames": frames,
            "n_records": records,
            "n_viral_records": viral,
            "embeddings": embeddings,
        },
    )
    return found


def _write_tables(
    output: Path, frames: pl.DataFrame, model: str, provenance: dict[str, str]
) -> tuple[int, int]:
    """Write frames, chunks and records; how many records, and how many of them are viral."""
    chunks, records = call(frames)
    records = records.with_columns(model=pl.lit(model))
    for name, table in (
        (result_files.FRAMES, frames.drop("id")),
        (result_files.CHUNKS, chunks),
        (result_files.RECORDS, records),
    ):
        result_files.write_parquet(output / name, table, provenance)
    return len(records), int(records["is_virus"].sum())


def _write_embeddings(
    path: Path, parts: Iterable[tuple[list[str], np.ndarray]], provenance: dict[str, str]
) -> int:
    """Write sequences as `virnuc embed` does; how many there are."""
    seen: set[str] = set()
    unusable = 0
    with atomic_path(path) as temporary:
        with new_hdf5(temporary, SEAL_BYTES) as file:
            values = names = None
            for ids, embeddings in parts:
                if values is None or names is None:
                    shape = (0, embeddings.shape[1])
                    values = file.create_dataset(
                        "embeddings", shape, np.float32, maxshape=(None, shape[1])
                    )
                    names = file.create_dataset(
                        "sequence_ids", (0,), h5py.string_dtype(), maxshape=(None,)
                    )
                _check(path, ids, embeddings, seen, values.shape[1])
                start, stop = len(seen), len(seen) + len(ids)
                seen.update(ids)
                values.resize(stop, axis=0)
                names.resize(stop, axis=0)
                values[start:stop], names[start:stop] = embeddings, ids
                unusable += int((~np.isfinite(embeddings)).any(axis=1).sum())
            file.attrs.update(provenance)
            file.attrs["set_aside"] = unusable
        seal(temporary)
    return len(seen)


def _check(path: Path, ids: list[str], embeddings: np.ndarray, seen: set[str], width: int) -> None:
    if embeddings.shape[1] != width:
        raise InputError(
            f"{path.name}: features are {width} wide in one file and {embeddings.shape[1]} in "
            "another, so they are of two models; import each run for itself"
        )
    new = set(ids)
    if (again := seen & new) or len(new) < len(ids):
        name = min(again or {name for name in new if ids.count(name) > 1})
        raise InputError(
            f"{path.name}: {name} is there twice; runs that were resumed wrongly leave such "
            "files, so leave one of them out"
        )
