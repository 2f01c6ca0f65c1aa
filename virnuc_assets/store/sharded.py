"""All shards of one encoder of one sample, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from virnuc_assets.errors import StoreError
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    Identity,
    Origin,
    merge_origins,
    shard_path,
    shard_rows,
    verify_contents,
)
from virnuc_assets.store.sequence_table import file_identity


def check_shards(files: Sequence[EmbeddingFile], n_rows: int, index_digest: str) -> None:
    """Check that `files` are, in order, all shards of one embedding of `n_rows` rows of an index.

    Raises:
        StoreError: one of them is not.
    """
    first = files[0]
    for shard, file in enumerate(files):
        wanted = replace(
            first.identity,
            index_digest=index_digest,
            n_shards=len(files),
            shard=shard,
            start=0,
            stop=shard_rows(n_rows, shard, len(files)),
        )
        if file.identity != wanted or file.dim != first.dim:
            raise StoreError(
                f"{file.path}: was made from another index, encoder or precision than this "
                "sample's other shards; materialise this shard again"
            )


class ShardedEmbeddings:
    """All shards of one encoder of one sample, read by row of the sequence table."""

    def __init__(self, directory: Path, n_shards: int, n_rows: int, index_digest: str) -> None:
        """Open every shard; check that each is whole and all are of the same index and encoder.

        An older shard can still count as materialised, and a file can rot, so nothing is taken on
        trust here: every file is read once in full.

        Raises:
            StoreError: a shard is missing, damaged, of another index, disagrees with the rest, or
                was replaced meanwhile.
        """
        opened = [_open_shard(shard_path(directory, s, n_shards)) for s in range(n_shards)]
        self.files = [file for file, _ in opened]
        self._maps = [mapped for _, mapped in opened]
        check_shards(self.files, n_rows, index_digest)
        self.dim = self.files[0].dim

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of `rows` (n,) int64, shape (n, dim), float32; NaN for rows set aside."""
        values = np.empty((len(rows), self.dim), np.float32)
        shards, positions = rows % len(self._maps), rows // len(self._maps)
        for shard, mapped in enumerate(self._maps):
            of_shard = np.flatnonzero(shards == shard)
            values[of_shard] = mapped[positions[of_shard]]
        return values

    @property
    def set_aside(self) -> np.ndarray:
        """Rows of the sequence table that could not be embedded, shape (k,), int64, ascending."""
        return np.array(sorted(row for file in self.files for row in file.set_aside), np.int64)

    @property
    def identity(self) -> Identity:
        """The first shard's identity; index, encoder and precision are those of all."""
        return self.files[0].identity

    @property
    def origin(self) -> Origin:
        """Where the numbers come from, over all shards."""
        return merge_origins(self.files)

    @property
    def counts(self) -> Counts:
        """Counts over all shards."""
        return sum((file.counts for file in self.files), Counts())


def _open_shard(path: Path) -> tuple[EmbeddingFile, np.ndarray]:
    # Shards are replaced, never rewritten: what was checked and mapped stays what it was.
    identity = file_identity(path)
    file = verify_contents(path)
    mapped = _memory_map(file)
    if file_identity(path) != identity:
        raise StoreError(f"{path}: was replaced while it was opened; start again")
    return file, mapped


def _memory_map(file: EmbeddingFile) -> np.ndarray:
    # Contiguous HDF5 data is plain bytes at an offset; numpy gathers scattered rows from a memory
    # map far faster than h5py's point selection does.
    with h5py.File(file.path, "r") as handle:
        shape, offset = handle["embeddings"].shape, handle["embeddings"].id.get_offset()
    if offset is None:
        return np.empty(shape, np.float32)
    return np.memmap(file.path, np.float32, "r", offset, shape)
