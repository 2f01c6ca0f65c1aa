"""A sequence table: one Arrow IPC file, one column `sequence`, memory-mapped.

Rows are what is embedded; a row number is the identity of a sequence in blocks and shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.digests import sha256_file

COLUMN = "sequence"
_BATCH_ROWS = 1 << 16
_BATCH_LETTERS = 1 << 26  # reached by sequences of more than a thousand letters only
# Rows that become Python strings at once; other threads wait meanwhile.
_PIECE = 4096


def write_sequence_table(path: Path, parts: Iterable[pa.LargeStringArray]) -> None:
    """Write the sequences of all `parts`, end to end, to `path`, atomically.

    The file depends on the sequences alone, not on where parts end.
    """
    schema = pa.schema({COLUMN: pa.large_string()})
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        for batch in _batches(parts):
            writer.write_batch(pa.record_batch([batch], schema))


def _batches(parts: Iterable[pa.LargeStringArray]) -> Iterator[pa.LargeStringArray]:
    """The strings of `parts` in arrays of as many as `_BATCH_ROWS` and `_BATCH_LETTERS` allow.

    A longer one is by itself.
    """
    waiting: list[pa.LargeStringArray] = []
    rows, letters = _BATCH_ROWS, _BATCH_LETTERS
    for part in parts:
        ends = np.cumsum(pc.binary_length(part).to_numpy())
        begin = given = 0
        while begin < len(part):
            fits = int(np.searchsorted(ends, given + letters, side="right"))
            end = min(max(fits, begin), begin + rows)
            if end == begin and not waiting:
                end += 1
            if end == begin:
                yield pa.concat_arrays(waiting)
                waiting, rows, letters = [], _BATCH_ROWS, _BATCH_LETTERS
                continue
            waiting.append(part[begin:end])
            rows -= end - begin
            letters -= int(ends[end - 1]) - given
            begin, given = end, int(ends[end - 1])
    if waiting:
        yield pa.concat_arrays(waiting)


FileIdentity = tuple[int, int, int, int]


class SequenceTable:
    """A sequence table opened for reading; nothing is loaded before it is asked for.

    `identity` tells this very file from one that took its name later: device, inode, size and time
    of change. Tables are replaced, never rewritten, so what is mapped stays what it was.
    """

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises:
            StoreError: the file is missing or is not a sequence table.
        """
        self.path = path
        try:
            self.identity = file_identity(path)
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            if file_identity(path) != self.identity:
                raise StoreError(f"{path}: was replaced while it was opened; start again")
            self._sequences: pa.ChunkedArray = table.column(COLUMN)
            if self._sequences.type != pa.large_string() or self._sequences.null_count:
                raise TypeError(f"its column {COLUMN} is not of large strings without nulls")
        except FileNotFoundError as error:
            raise StoreError(
                f"{path}: no such sequence table; make the index first (virnuc index)"
            ) from error
        except (pa.ArrowException, OSError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}: is not a sequence table ({error}); make the index again"
            ) from error

    def verify(self, sha256: str) -> None:
        """Check that this file is the one with digest `sha256`.

        Raises:
            StoreError: it is not, or another file has taken its name.
        """
        if sha256_file(self.path) != sha256 or file_identity(self.path) != self.identity:
            raise StoreError(
                f"{self.path}: is not the sequence table its index describes (SHA-256 differs); "
                "make the index again"
            )

    def __len__(self) -> int:
        return len(self._sequences)

    def lengths(self) -> np.ndarray:
        """Letters per row, shape (n,), int64."""
        lengths = pc.binary_length(self._sequences)
        return lengths.to_numpy().astype(np.int64, copy=False)

    def take(self, rows: npt.ArrayLike) -> list[str]:
        """The sequences at `rows` (whole numbers, (n,)), in that order."""
        rows = np.asarray(rows, np.int64)
        if not rows.size:
            return []
        # From around them alone: Arrow copies all that it takes from.
        first = int(rows.min())
        around = self._sequences.slice(first, int(rows.max()) + 1 - first)
        found = around.take(pa.array(rows - first, pa.int64()))
        pieces = (found.slice(start, _PIECE) for start in range(0, len(found), _PIECE))
        return [sequence for piece in pieces for sequence in piece.to_pylist()]


def file_identity(path: Path) -> FileIdentity | None:
    """What tells the file at `path` from one that takes its name later; None: there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
