"""A block of records on its way into an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.chunks import Chunks, chunk_records, windows
from virnuc_assets.sequences.compiled import compiled
from virnuc_assets.sequences.frames import FRAME_NAMES, open_frames
from virnuc_assets.sequences.ragged import flat, offsets_of, string_array
from virnuc_assets.sequences.records import Records
from virnuc_assets.sequences.runs import Run, write_run
from virnuc_assets.sequences.spool import Kept, Spool

_RUN_BYTES = 1 << 26

_FRAME_NAMES = pa.array(FRAME_NAMES, pa.large_string())
_FRAME_LETTERS = np.frombuffer("".join(FRAME_NAMES).encode(), np.uint8)
_INFIX = np.frombuffer(b"_chunk_", np.uint8)
_DIGITS = 10 ** np.arange(1, 19)


@dataclass(frozen=True)
class FrameRun:
    """Consecutive open frames of a block, and the runs that their sequences are in.

    `frames` has the columns `record` (from 0 in the block), `chunk`, `frame` and `name` of an
    index, and `nucleotides` and `protein`: where a frame's sequences are in the two runs.
    """

    frames: Kept
    nucleotides: Run
    proteins: Run


@dataclass(frozen=True)
class IndexedBlock:
    """A block's records (id, length, rna, n_chunks, n_frames) and its frames."""

    records: pa.Table
    runs: tuple[FrameRun, ...]


def index_records(chunk_length: int, spool: Spool, records: Records) -> IndexedBlock:
    """Index a block of records, putting their frames and the frames' sequences by."""
    chunks = chunk_records(records.offsets, chunk_length)
    n_frames = np.zeros(len(records), np.int64)
    runs = []
    for frames in _frames(records, chunks):
        n_frames += np.bincount(frames["record"].to_numpy(), minlength=len(records))
        nucleotides, nucleotide = write_run(spool, frames["nucleotides"].combine_chunks())
        proteins, protein = write_run(spool, frames["protein"].combine_chunks())
        frames = frames.set_column(4, "nucleotides", pa.array(nucleotide))
        frames = frames.set_column(5, "protein", pa.array(protein))
        runs.append(FrameRun(spool.keep(frames), nucleotides, proteins))
    columns = {
        "id": records.ids,
        "length": np.diff(records.offsets),
        "rna": records.rna,
        "n_chunks": np.bincount(chunks.record, minlength=len(records)),
        "n_frames": n_frames,
    }
    return IndexedBlock(pa.table(columns), tuple(runs))


def _frames(records: Records, chunks: Chunks) -> Iterator[pa.Table]:
    """The open frames, as many at a time as a run holds, with their sequences."""
    tables: list[pa.Table] = []
    size = 0
    for window in windows(chunks):
        tables.append(_frames_of(records, chunks, window))
        size += tables[-1].nbytes
        if size > _RUN_BYTES:
            yield pa.concat_tables(tables)
            tables, size = [], 0
    if tables:
        yield pa.concat_tables(tables)


def _frames_of(records: Records, chunks: Chunks, window: slice) -> pa.Table:
    """The open frames of a window of the chunks."""
    start, stop = chunks.start[window], chunks.stop[window]
    base = start[0]
    found = open_frames(records.letters[base : stop[-1]], start - base, stop - base)
    record = chunks.record[window][found.chunk]
    number = chunks.number[window][found.chunk]
    columns = {
        "record": record,
        "chunk": number,
        "frame": _FRAME_NAMES.take(pa.array(found.frame)),
        "name": frame_names(records.ids, record, number, found.frame),
        "nucleotides": found.nucleotides,
        "protein": found.proteins,
    }
    return pa.table(columns)


def frame_names(
    ids: pa.LargeStringArray, record: np.ndarray, number: np.ndarray, frame: np.ndarray
) -> pa.LargeStringArray:
    """`{id}_chunk_{number}{F1 … R3}` of n frames: positions in `ids`, chunk numbers, frames."""
    letters, id_offsets = flat(ids)
    digits = 1 + np.searchsorted(_DIGITS, number, side="right")
    offsets = offsets_of(np.diff(id_offsets)[record] + _INFIX.size + digits + 2)
    names = np.empty(offsets[-1], np.uint8)
    _write_names(letters, id_offsets, record, number, frame, offsets, names)
    return string_array(names, offsets)


@compiled
def _write_names(
    ids: np.ndarray,
    id_offsets: np.ndarray,
    record: np.ndarray,
    number: np.ndarray,
    frame: np.ndarray,
    offsets: np.ndarray,
    names: np.ndarray,
) -> None:
    for i in range(record.size):
        place = offsets[i]
        for letter in ids[id_offsets[record[i]] : id_offsets[record[i] + 1]]:
            names[place] = letter
            place += 1
        for letter in _INFIX:
            names[place] = letter
            place += 1
        end = offsets[i + 1]
        names[end - 2] = _FRAME_LETTERS[2 * frame[i]]
        names[end - 1] = _FRAME_LETTERS[2 * frame[i] + 1]
        left = number[i]
        for digit in range(end - 3, place - 1, -1):
            names[digit] = ord("0") + left % 10
            left //= 10
