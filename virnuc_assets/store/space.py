"""How much disk a run still needs, and whether it is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.errors import DiskFullError

_ROW_NUMBER_BYTES = 8
FILE_BYTES = 16_384
"""What a file takes beside its rows: HDF5's own structures, and the rest of its last disk block."""


@dataclass(frozen=True)
class Unfinished:
    """A shard that is not in place yet."""

    rows: int
    pending_rows: int
    """Rows, of these, in blocks that are still to be written."""
    pending_blocks: int


def bytes_needed(shards: Iterable[Unfinished], dim: int) -> int:
    """Bytes that finishing `shards` takes at its peak, beyond what lies on the disk already.

    A finished shard is as large as its blocks were, and is whole before they are removed. So the
    peak is every block that is still to be written, and once more the largest shard, which may be
    the last. `dim` is the embeddings' width.
    """
    unfinished = list(shards)
    if not unfinished:
        return 0
    row_bytes = 4 * dim + _ROW_NUMBER_BYTES
    blocks = sum(
        shard.pending_rows * row_bytes + shard.pending_blocks * FILE_BYTES for shard in unfinished
    )
    return blocks + max(shard.rows for shard in unfinished) * row_bytes + FILE_BYTES


def check_space(directory: Path, needed: int) -> None:
    """Check that the disk of `directory` (made or not) has `needed` bytes free.

    Raises:
        DiskFullError: it has fewer.
    """
    there = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskFullError(directory, needed, free)
