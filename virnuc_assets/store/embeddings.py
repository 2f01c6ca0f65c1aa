"""Embeddings on disk: block files while a run goes on, shard files when it is done.

A block and a shard are the same kind of HDF5 file: `embeddings` (n, d) float32 and `row` (n,)
int64, the row of the sequence table each embedding belongs to, with attributes that say what made
them. `set_aside` (k,) int64 lists the rows that could not be embedded: their values are NaN, and no
others are. Shard s of S holds rows s::S. Nothing in a file depends on when or how often a run was
interrupted, so the same work gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from virnuc_assets.errors import StoreError, UnusableFileError
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.hdf5 import new_hdf5
from virnuc_assets.store.seal import SEAL_BYTES, check_seal, seal

SCHEMA = 2


@dataclass(frozen=True)
class Identity:
    """What an embedding file was made from. A file with any other identity is foreign."""

    encoder: str
    index_digest: str
    encoder_digest: str
    dtype: str
    n_shards: int
    shard: int
    start: int
    """First row of the file, as a position within its shard."""
    stop: int
    """One past the last."""

    def rows(self) -> np.ndarray:
        """Rows of the sequence table, shape (stop - start,), int64."""
        positions = np.arange(self.start, self.stop, dtype=np.int64)
        return self.shard + self.n_shards * positions


@dataclass(frozen=True)
class Counts:
    """What was computed for a file; adds up over files."""

    tokens: int = 0
    """Real tokens, padding excluded."""
    truncated: int = 0
    """Sequences cut at the model's limit."""
    windowed: int = 0
    """Sequences embedded in several windows."""
    redone_in_float32: int = 0
    """Sequences, or windows of one, recomputed in float32 after a NaN or Inf in lower precision."""

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Origin:
    """Which weights, device and code path made the numbers of a file."""

    model: str
    """Label of the encoder's weights, as shown to people."""
    weights_digest: str
    device: str
    attention: str
    engine: str
    """Fused layers, or plain ones and why."""
    token_budget: int
    long_sequences: str


@dataclass(frozen=True)
class EmbeddingFile:
    """An embedding file without its numbers."""

    path: Path
    identity: Identity
    counts: Counts
    origin: Origin
    dim: int
    checksum: str
    """SHA-256 of the embeddings' bytes, row-major."""
    set_aside: tuple[int, ...] = ()
    """Rows of the sequence table that could not be embedded, ascending; NaN in the file."""


def shard_path(directory: Path, shard: int, n_shards: int) -> Path:
    """The file of shard `shard` (counted from 0) of `n_shards`."""
    return directory / f"shard-{shard:02d}-of-{n_shards:02d}.h5"


def blocks_directory(directory: Path, shard: int, n_shards: int) -> Path:
    """Where a shard's block files lie until it is assembled."""
    return directory / f"shard-{shard:02d}-of-{n_shards:02d}.blocks"


def block_path(directory: Path, shard: int, n_shards: int, block: int) -> Path:
    """The file of block `block` of a shard."""
    return blocks_directory(directory, shard, n_shards) / f"block-{block:05d}.h5"


def shard_rows(n_rows: int, shard: int, n_shards: int) -> int:
    """How many of a table's `n_rows` belong to a shard."""
    return len(range(shard, n_rows, n_shards))


def write_embeddings(
    path: Path,
    identity: Identity,
    origin: Origin,
    counts: Counts,
    dim: int,
    pieces: Iterable[np.ndarray],
    set_aside: Sequence[int] = (),
) -> EmbeddingFile:
    """Write an embedding file from consecutive float32 arrays (n_i, dim), atomically.

    The rows `set_aside` (rows of the sequence table) are written as NaN, whatever the pieces hold.

    Raises:
        StoreError: the folder cannot be written, or the pieces do not add up to the identity.
        ValueError: a row of `set_aside` is not one of the file's.
    """
    n = identity.stop - identity.start
    without = np.unique(np.asarray(set_aside, np.int64))
    absent = np.isin(identity.rows(), without)
    if absent.sum() != len(without):
        raise ValueError(f"{path}: rows {without.tolist()} are not all of {identity}")
    checksum = hashlib.sha256()
    with atomic_path(path) as temporary:
        with new_hdf5(temporary, SEAL_BYTES) as file:
            dataset = file.create_dataset("embeddings", (n, dim), np.float32)
            filled = 0
            for piece in pieces:
                values = np.ascontiguousarray(piece, np.float32)
                missing = absent[filled : filled + len(values)]
                if missing.any():
                    values = np.where(missing[:, None], np.float32(np.nan), values)
                dataset[filled : filled + len(values)] = values
                checksum.update(values.data)
                filled += len(values)
            if filled != n:
                raise StoreError(f"{path}: {filled} embeddings for {n} rows; run it again")
            file.create_dataset("row", data=identity.rows())
            file.create_dataset("set_aside", data=without)
            written = EmbeddingFile(
                path, identity, counts, origin, dim, checksum.hexdigest(), tuple(without.tolist())
            )
            file.attrs["schema"] = SCHEMA
            file.attrs["dim"] = dim
            file.attrs["checksum"] = written.checksum
            for group in (identity, counts, origin):
                for name, value in asdict(group).items():
                    file.attrs[name] = value
        seal(temporary)
    return written


def read_attributes(path: Path) -> EmbeddingFile:
    """Read what an embedding file says of itself; its bytes are checked first, its numbers not.

    Raises:
        StoreError: missing.
        UnusableFileError: damaged, or not an embedding file of this version.
    """
    check_seal(path)
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Any] = {name: _plain(value) for name, value in file.attrs.items()}
            shapes = {name: file[name].shape for name in ("embeddings", "row")}
            set_aside = file["set_aside"][:].tolist()
        if found["schema"] != SCHEMA:
            raise UnusableFileError(
                path, f"has format {found['schema']}, this version reads {SCHEMA}"
            )
        read = EmbeddingFile(
            path=path,
            identity=Identity(**_fields(Identity, found)),
            counts=Counts(**_fields(Counts, found)),
            origin=Origin(**_fields(Origin, found)),
            dim=found["dim"],
            checksum=found["checksum"],
            set_aside=tuple(set_aside),
        )
    except (OSError, KeyError) as error:
        raise UnusableFileError(path, f"is not an embedding file ({error})") from error
    n = read.identity.stop - read.identity.start
    if shapes != {"embeddings": (n, read.dim), "row": (n,)}:
        raise UnusableFileError(path, f"holds shapes {shapes} for {n} rows")
    return read


def verify(path: Path, expected: Identity) -> EmbeddingFile:
    """Check that a file was made from `expected` and is whole.

    Raises:
        StoreError: missing.
        UnusableFileError: says what is wrong or differs.
    """
    read = read_attributes(path)
    found, wanted = asdict(read.identity), asdict(expected)
    differing = [
        f"{name} is {found[name]!r}, not {wanted[name]!r}"
        for name in wanted
        if found[name] != wanted[name]
    ]
    if differing:
        raise UnusableFileError(path, f"was made from something else ({'; '.join(differing)})")
    _check_numbers(read)
    return read


def verify_contents(path: Path) -> EmbeddingFile:
    """Check that a file is whole: its bytes, its rows, and NaN where and only where it says.

    A row set aside is NaN throughout; any other is finite throughout.

    Raises:
        StoreError: missing.
        UnusableFileError: says what is wrong.
    """
    read = read_attributes(path)
    _check_numbers(read)
    return read


def _check_numbers(read: EmbeddingFile) -> None:
    path = read.path
    missing, broken = [np.empty(0, np.int64)], False
    rows = read.identity.rows()
    try:
        with h5py.File(path, "r") as file:
            rows_match = np.array_equal(file["row"][:], rows)
            start = 0
            for piece in _pieces(file["embeddings"]):
                is_missing = np.isnan(piece).all(axis=1)
                missing.append(rows[start : start + len(piece)][is_missing])
                broken |= not np.isfinite(piece[~is_missing]).all()
                start += len(piece)
    except OSError as error:
        raise UnusableFileError(path, f"cannot be read ({error})") from error
    if not rows_match:
        raise UnusableFileError(path, "its rows are not those it says it holds")
    if broken or tuple(np.concatenate(missing).tolist()) != read.set_aside:
        raise UnusableFileError(
            path,
            "holds values that are not finite numbers, or rows without them, other than the rows "
            "it lists as set aside",
        )


def merge_origins(files: Sequence[EmbeddingFile]) -> Origin:
    """One origin for several files, which may have been made on different devices."""
    origins = [asdict(file.origin) for file in files]

    def merged(name: str) -> str:
        return ", ".join(sorted({origin[name] for origin in origins}))

    return Origin(
        model=merged("model"),
        weights_digest=merged("weights_digest"),
        device=merged("device"),
        attention=merged("attention"),
        engine=merged("engine"),
        token_budget=min(origin["token_budget"] for origin in origins),
        long_sequences=merged("long_sequences"),
    )


def assemble_shard(
    directory: Path, identity: Identity, blocks: Sequence[EmbeddingFile], dim: int
) -> EmbeddingFile:
    """Join a shard's verified blocks (in order) into its shard file, at constant memory."""

    def pieces() -> Iterable[np.ndarray]:
        for block in blocks:
            with h5py.File(block.path, "r") as file:
                yield from _pieces(file["embeddings"])

    counts = sum((block.counts for block in blocks), Counts())
    set_aside = [row for block in blocks for row in block.set_aside]
    path = shard_path(directory, identity.shard, identity.n_shards)
    return write_embeddings(path, identity, merge_origins(blocks), counts, dim, pieces(), set_aside)


def _pieces(dataset: h5py.Dataset, rows: int = 4096) -> Iterable[np.ndarray]:
    for start in range(0, len(dataset), rows):
        yield dataset[start : start + rows]


def _fields(kind: type[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    return {field.name: attributes[field.name] for field in fields(kind)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
