"""Tables put by for later: in memory while there is room, then on disk."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.ipc

BATCH_ROWS = 1 << 9
"""Rows that are read from disk at a time, or fewer where they are long."""

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Kept:
    """A table that was put by: `place` is the table itself or the file it is in.

    A file is read `batch_rows` at a time.
    """

    place: pa.Table | Path
    rows: int
    batch_rows: int

    def read(self, first: int, last: int) -> pa.Table:
        """The rows from `first` to before `last`."""
        if isinstance(self.place, pa.Table):
            return self.place[first:last]
        begin, end = first // self.batch_rows, -(-last // self.batch_rows)
        with pa.OSFile(str(self.place)) as file, pa.ipc.open_file(file) as reader:
            batches = [reader.get_batch(number) for number in range(begin, end)]
            table = pa.Table.from_batches(batches, reader.schema)
        before = begin * self.batch_rows
        return table[first - before : last - before]


class Spool:
    """Puts tables by, from any thread: up to `room` bytes in memory, the rest in `folder`."""

    def __init__(self, folder: Path, room: int = 1 << 27) -> None:
        self._folder = folder
        self._room = room
        self._lock = Lock()
        self._numbers = count()

    def keep(self, table: pa.Table) -> Kept:
        """Put `table` by."""
        with self._lock:
            fits = table.nbytes <= self._room
            self._room -= table.nbytes if fits else 0
            path = self._folder / f"{next(self._numbers)}.arrow"
        shorter = _BATCH_BYTES * table.num_rows // max(table.nbytes, 1)
        kept = Kept(table if fits else path, table.num_rows, max(1, min(BATCH_ROWS, shorter)))
        if not fits:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks(), max_chunksize=kept.batch_rows)
        return kept
