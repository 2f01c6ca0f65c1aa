"""What VirNucPro and the tools made from it leave behind, read without trusting it.

Frames are named `RECORD_chunk_N` and then F1 to R3, chunks counted from 1. Scores of frames are in
`prediction_results.txt`. Merged features are pickles of torch: a dict with `ids` and `data`, the
nucleotide's embedding and the protein's side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import h5py
import numpy as np
import polars as pl

from virnuc_assets.classifier import calls
from virnuc_assets.classifier.result_files import ORIGINAL_FRAMES
from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.tables import name_some, read_tsv

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = r"^(.+)_chunk_([1-9][0-9]*)([FR][123])$"
_ROWS = 8192
# What torch and pickle raise on files that are cut, foreign or forged.
_DAMAGE = (
    RuntimeError,
    UnpicklingError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)


@dataclass(frozen=True)
class Run:
    """The files of a run that can be read.

    `table`: `prediction_results.txt`, if it is there. `merged`: files of merged features, in the
    order of their names. `embeddings`: HDF5 files of embeddings.
    """

    table: Path | None
    merged: tuple[Path, ...]
    embeddings: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*((self.table,) if self.table else ()), *self.merged, *self.embeddings)


def find_run(folder: Path) -> Run:
    """What lies in `folder` or below it.

    Raises:
        InputError: there is no such folder, nothing in it that can be read, two tables, or an HDF5
            file that is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one that the run's outputs are in")
    tables = sorted(folder.rglob(ORIGINAL_FRAMES))
    if len(tables) > 1:
        raise InputError(
            f"{folder}: holds {len(tables)} runs, {tables[0].parent} and {tables[1].parent} among "
            "them; give one of these folders"
        )
    merged = sorted(folder.rglob("*_merged.pt"))
    embeddings = sorted(file for file in folder.rglob("*.h5") if _holds_embeddings(file))
    run = Run(tables[0] if tables else None, tuple(merged), tuple(embeddings))
    if not run.files:
        raise InputError(
            f"{folder}: holds no {ORIGINAL_FRAMES}, no *_merged.pt and no HDF5 file with the "
            "datasets embeddings and sequence_ids; give the folder that the run's outputs are in"
        )
    return run


def read_frames(path: Path) -> pl.DataFrame:
    """The frames of `prediction_results.txt`, in its order.

    Returns:
        ordinal, record (numbers, by first appearance), id (the record's), chunk (from 1), frame,
        name, score_other and score_virus (float32).

    Raises:
        InputError: the table cannot be used.
    """
    table = read_tsv(path, ("Sequence_ID", "Prediction", "score1", "score2"))
    parts = table["Sequence_ID"].str.extract_groups(_NAME).struct.unnest()
    parts.columns = ["id", "chunk", "frame"]
    if (strange := parts["id"].is_null()).any():
        raise InputError(
            f"{path}: {name_some(table['Sequence_ID'].filter(strange))} is not the name of a "
            "frame, RECORD_chunk_NUMBER and then F1, F2, F3, R1, R2 or R3; give a table that the "
            "original tool wrote"
        )
    if (again := ~table["Sequence_ID"].is_first_distinct()).any():
        raise InputError(
            f"{path}: {name_some(table['Sequence_ID'].filter(again))} is there twice; runs that "
            "were resumed wrongly leave such tables, so make it again"
        )
    scores = table.select(
        score_other=pl.col("score1").cast(pl.Float32, strict=False),
        score_virus=pl.col("score2").cast(pl.Float32, strict=False),
    )
    wrong = ~scores.select(pl.all_horizontal(pl.all().is_between(0, 1))).to_series().fill_null(
        False
    )
    if wrong.any():
        raise InputError(
            f"{path}: the scores of {name_some(table['Sequence_ID'].filter(wrong))} are not "
            "numbers from 0 to 1; make the table again"
        )
    first = parts["id"].unique(maintain_order=True)
    number = dict(zip(first, range(len(first)), strict=True))
    return pl.DataFrame(
        {
            "ordinal": np.arange(len(table)),
            "record": parts["id"].replace_strict(number, return_dtype=pl.Int64),
            "id": parts["id"],
            "chunk": parts["chunk"].cast(pl.Int64),
            "frame": parts["frame"],
            "name": table["Sequence_ID"],
            **scores.to_dict(),
        }
    )


def call(frames: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Chunks and records of such frames, called by our rules.

    Lengths of records and how many chunks they have are in no file of the original's: null.
    """
    unknown = pl.lit(None, pl.Int64)
    index = (
        frames.group_by("record", maintain_order=True)
        .agg(pl.col("id").first(), n_frames=pl.len())
        .rename({"record": "ordinal"})
        .with_columns(length=unknown, n_chunks=unknown)
    )
    chunks = calls.call_chunks(frames)
    return chunks, calls.call_records(index, chunks)


def read_merged(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and features (n, d), float32, of a file of merged features.

    Raises:
        InputError: it is no such file; nothing but tensors, lists and strings is unpickled.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        ids, data = [str(name) for name in content["ids"]], content["data"]
        values = data if isinstance(data, torch.Tensor) else torch.stack(list(data))
        features = values.float().numpy()
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(
            f"{path}: is no file of merged features ({reason}); remove it or copy it again"
        ) from error
    if features.ndim != 2 or len(ids) != len(features):
        raise InputError(
            f"{path}: has {len(ids)} names for features of shape {tuple(features.shape)}; such a "
            "file mixes sequences up, so leave it out"
        )
    return ids, features


def read_embeddings(path: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    """Names and embeddings (n, d), float32, of an HDF5 file, some at a time.

    Raises:
        InputError: there are not as many names as embeddings.
    """
    with h5py.File(path, "r") as file:
        values, names = file["embeddings"], file["sequence_ids"].asstr()
        if values.ndim != 2 or len(values) != len(names):
            raise InputError(
                f"{path}: has {len(names)} names for embeddings of shape {values.shape}; such a "
                "file mixes sequences up, so leave it out"
            )
        for start in range(0, len(values), _ROWS):
            rows = slice(start, start + _ROWS)
            yield list(names[rows]), values[rows].astype(np.float32)


def _holds_embeddings(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            names = file.get("sequence_ids")
            return (
                isinstance(file.get("embeddings"), h5py.Dataset)
                and isinstance(names, h5py.Dataset)
                and h5py.check_string_dtype(names.dtype) is not None
            )
    except OSError as error:
        raise InputError(
            f"{path}: is not a whole HDF5 file ({error}); copy it again, or take it out of the "
            "folder"
        ) from error
