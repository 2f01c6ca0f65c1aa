"""Distinct sequences of more than memory holds: sorted runs, merged part by part.

Each block of input leaves a run: its distinct sequences in the order of tables. Splitters drawn
from all runs cut them into parts of about one size; a part of every run together is sorted as a
whole and appended to the table (sample sort, Frazer and McKellar 1970).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from virnuc_assets.sequences.parallel import ordered_map
from virnuc_assets.sequences.ragged import flat
from virnuc_assets.sequences.spool import Kept, Spool
from virnuc_assets.sequences.unique import unique_longest_first
from virnuc_assets.store.sequence_table import COLUMN, write_sequence_table

_LEAST_PART, _MOST_PART, _PIECE = 1 << 22, 1 << 25, 1 << 17

Place = tuple[int, str]
"""What the order of tables goes by: minus a sequence's length, then its first letters."""

_PLACE_LETTERS = 1 << 10  # memory holds places of all runs, and sequences may be long


@dataclass(frozen=True)
class Run:
    """Distinct sequences in the order of tables.

    `marks`: the first of every batch of rows, with how many letters there are from each to the
    next.
    """

    kept: Kept
    marks: tuple[tuple[Place, int], ...]

    def read(self, first: int, last: int) -> pa.LargeStringArray:
        """The sequences from `first` to before `last`, in memory of their own."""
        if first == last:
            return pa.array([], pa.large_string())
        return pa.concat_arrays(self.kept.read(first, last)[COLUMN].chunks)

    def split(self, splitters: Sequence[Place]) -> list[int]:
        """Where each part of it starts, and its end; one more part than `splitters`."""
        return [0, *map(self._find, splitters), self.kept.rows]

    def _find(self, place: Place) -> int:
        """How many of the sequences come before `place`."""
        after = bisect_left(self.marks, place, key=lambda mark: mark[0])
        if not after:
            return 0
        first = (after - 1) * self.kept.batch_rows
        batch = self.read(first, min(first + self.kept.batch_rows, self.kept.rows)).to_pylist()
        return first + bisect_left(batch, place, key=_place)


def _place(sequence: str) -> Place:
    return -len(sequence), sequence[:_PLACE_LETTERS]


def write_run(spool: Spool, sequences: pa.LargeStringArray) -> tuple[Run, np.ndarray]:
    """Put the distinct ones of `sequences` by; the run, and where each is in it (int64, (n,))."""
    distinct, rows = unique_longest_first(sequences)
    kept = spool.keep(pa.table({COLUMN: distinct}))
    starts = flat(distinct)[1]
    edges = [*range(0, kept.rows, kept.batch_rows), kept.rows]
    marks = tuple(
        (_place(distinct[first].as_py()), int(starts[last] - starts[first]))
        for first, last in pairwise(edges)
        if first < last
    )
    return Run(kept, marks), rows


@dataclass(frozen=True)
class Merged:
    """A table of the distinct sequences of several runs: how many, and their letters.

    `rows_file` holds rows of the table (int64), and `spans[i]` where in it those of run i are:
    first number and count.
    """

    sequences: int
    letters: int
    rows_file: Path
    spans: tuple[tuple[tuple[int, int], ...], ...]

    def rows(self, run: int) -> np.ndarray:
        """The row of each sequence of run number `run`; int64, shape (n,)."""
        parts = [
            np.fromfile(self.rows_file, np.int64, count, offset=8 * first)
            for first, count in self.spans[run]
        ]
        return np.concatenate(parts)


def merge_runs(
    runs: Sequence[Run],
    table: Path,
    scratch: Path,
    threads: int,
    part_letters: int | None = None,
) -> Merged:
    """Write the distinct sequences of all `runs` to `table`, and a file into folder `scratch`.

    About `part_letters` are sorted together, by default as many as let what is read of a run at a
    time be of some size, within bounds.

    Raises:
        StoreError: `table` cannot be written.
    """
    if part_letters is None:
        part_letters = min(max(_LEAST_PART, len(runs) * _PIECE), _MOST_PART)
    bounds = _bounds(runs, part_letters)
    sequences = letters = given = 0
    spans: list[list[tuple[int, int]]] = [[] for _ in runs]
    rows_file = scratch / f"{table.stem}.rows"

    def sort_part(part: int) -> tuple[pa.LargeStringArray, np.ndarray]:
        pieces = [run.read(*of_run[part]) for run, of_run in zip(runs, bounds, strict=True)]
        return unique_longest_first(pa.concat_arrays(pieces))

    def sorted_parts(rows_of_parts: BinaryIO) -> Iterator[pa.LargeStringArray]:
        nonlocal sequences, letters, given
        parts = range(len(bounds[0]))
        in_order = ordered_map(sort_part, parts, threads)
        for part, (distinct, rows) in zip(parts, in_order, strict=True):
            rows_of_parts.write((rows + sequences).data)
            for of_run, span in zip(bounds, spans, strict=True):
                first, last = of_run[part]
                span.append((given, last - first))
                given += last - first
            sequences += len(distinct)
            letters += int(flat(distinct)[1][-1])
            yield distinct

    with rows_file.open("wb") as file:
        write_sequence_table(table, sorted_parts(file))
    return Merged(sequences, letters, rows_file, tuple(map(tuple, spans)))


def _bounds(runs: Sequence[Run], part_letters: int) -> list[list[tuple[int, int]]]:
    """For each run, the first row and the end of each part of it."""
    marks = sorted(mark for run in runs for mark in run.marks)
    part = np.cumsum([letters for _, letters in marks]) // part_letters
    splitters = [marks[row][0] for row in np.flatnonzero(np.diff(part)) + 1]
    return [list(pairwise(run.split(splitters))) for run in runs]
