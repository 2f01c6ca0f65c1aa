"""A sequence table: one Arrow IPC file, one column `sequence`, memory-mapped.

Rows are what is embedded; a row number is the identity of a sequence in blocks and shards.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path

COLUMN = "sequence"
_BATCH_ROWS = 1 << 16


def write_sequence_table(path: Path, sequences: pa.Array | pa.ChunkedArray) -> None:
    """Write string `sequences` (in the order given) to `path`, atomically."""
    table = pa.table({COLUMN: sequences.cast(pa.large_string())})
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)


class SequenceTable:
    """A sequence table opened for reading; nothing is loaded before it is asked for."""

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises:
            StoreError: the file is missing or is not a sequence table.
        """
        self.path = path
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            self._sequences: pa.ChunkedArray = table.column(COLUMN)
        except FileNotFoundError as error:
            raise StoreError(
                f"{path}: no such sequence table; make the index first (virnuc index)"
            ) from error
        except (pa.ArrowInvalid, KeyError) as error:
            raise StoreError(
                f"{path}: is not a sequence table ({error}); make the index again"
            ) from error

    def __len__(self) -> int:
        return len(self._sequences)

    def lengths(self) -> np.ndarray:
        """Letters per row, shape (n,), int64."""
        lengths = pc.binary_length(self._sequences)
        return lengths.to_numpy().astype(np.int64, copy=False)

    def take(self, rows: np.ndarray) -> list[str]:
        """The sequences at `rows` (int64), in that order."""
        return self._sequences.take(pa.array(rows, pa.int64())).to_pylist()
