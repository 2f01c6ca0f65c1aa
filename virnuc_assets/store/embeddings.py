"""Embeddings on disk: block files while a run goes on, shard files when it is done.

A block and a shard are the same kind of HDF5 file: `embeddings` (n, d) float32 and `row` (n,)
int64, the row of the sequence table each embedding belongs to, with attributes that say what made
them. Shard s of S holds rows s::S. Nothing in a file depends on when or how often a run was
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

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import atomic_path

SCHEMA = 1


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
    slots: int = 0
    """Tokens computed, padding included: packs × token budget."""
    packs: int = 0
    truncated: int = 0
    """Sequences cut at the model's limit."""
    windowed: int = 0
    """Sequences embedded in several windows."""
    redone_in_float32: int = 0
    """Sequences, or windows of one, recomputed in float32 after a NaN or Inf in lower precision."""

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def packing_efficiency(self) -> float:
        """Real tokens over computed tokens; 1.0 for an empty file."""
        return self.tokens / self.slots if self.slots else 1.0


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
    """An embedding file's attributes, read back."""

    path: Path
    identity: Identity
    counts: Counts
    origin: Origin
    dim: int
    checksum: str
    """SHA-256 of the embeddings' bytes, row-major."""


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
) -> EmbeddingFile:
    """Write an embedding file from consecutive float32 arrays (n_i, dim), atomically.

    Raises:
        StoreError: the folder cannot be written, or the pieces do not add up to the identity.
    """
    n = identity.stop - identity.start
    checksum = hashlib.sha256()
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        dataset = file.create_dataset("embeddings", (n, dim), np.float32)
        filled = 0
        for piece in pieces:
            values = np.ascontiguousarray(piece, np.float32)
            dataset[filled : filled + len(values)] = values
            checksum.update(values.data)
            filled += len(values)
        if filled != n:
            raise StoreError(f"{path}: {filled} embeddings for {n} rows; run it again")
        file.create_dataset("row", data=identity.rows())
        written = EmbeddingFile(path, identity, counts, origin, dim, checksum.hexdigest())
        file.attrs["schema"] = SCHEMA
        file.attrs["dim"] = dim
        file.attrs["checksum"] = written.checksum
        for group in (identity, counts, origin):
            for name, value in asdict(group).items():
                file.attrs[name] = value
    return written


def read_attributes(path: Path) -> EmbeddingFile:
    """Read an embedding file's attributes, not its numbers.

    Raises:
        StoreError: missing, damaged, or not an embedding file of this version.
    """
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Any] = {name: _plain(value) for name, value in file.attrs.items()}
            shapes = {name: file[name].shape for name in ("embeddings", "row")}
        if found["schema"] != SCHEMA:
            raise StoreError(
                f"{path}: has format {found['schema']}, this version reads {SCHEMA}; "
                "delete it and embed again"
            )
        read = EmbeddingFile(
            path=path,
            identity=Identity(**_fields(Identity, found)),
            counts=Counts(**_fields(Counts, found)),
            origin=Origin(**_fields(Origin, found)),
            dim=found["dim"],
            checksum=found["checksum"],
        )
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such embedding file; embed this shard first") from error
    except (OSError, KeyError) as error:
        raise StoreError(
            f"{path}: is not a whole embedding file ({error}); delete it and embed again"
        ) from error
    n = read.identity.stop - read.identity.start
    if shapes != {"embeddings": (n, read.dim), "row": (n,)}:
        raise StoreError(f"{path}: holds shapes {shapes} for {n} rows; delete it and embed again")
    return read


def verify(path: Path, expected: Identity) -> EmbeddingFile:
    """Check that a file was made from `expected` and is whole.

    Raises:
        StoreError: says what differs.
    """
    found, wanted = asdict(read_attributes(path).identity), asdict(expected)
    differing = [
        f"{name} is {found[name]!r}, not {wanted[name]!r}"
        for name in wanted
        if found[name] != wanted[name]
    ]
    if differing:
        raise StoreError(f"{path}: was made from something else ({'; '.join(differing)})")
    return verify_contents(path)


def verify_contents(path: Path) -> EmbeddingFile:
    """Check that a file is whole: its rows, its checksum, and no NaN or Inf.

    Raises:
        StoreError: says what is wrong.
    """
    read = read_attributes(path)
    checksum, finite = hashlib.sha256(), True
    try:
        with h5py.File(path, "r") as file:
            rows_match = np.array_equal(file["row"][:], read.identity.rows())
            for piece in _pieces(file["embeddings"]):
                checksum.update(piece.data)
                finite &= bool(np.isfinite(piece).all())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    if not rows_match or checksum.hexdigest() != read.checksum:
        raise StoreError(f"{path}: its contents do not match its checksum")
    if not finite:
        raise StoreError(f"{path}: holds values that are not finite numbers")
    return read


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
    path = shard_path(directory, identity.shard, identity.n_shards)
    return write_embeddings(path, identity, merge_origins(blocks), counts, dim, pieces())


class ShardedEmbeddings:
    """All shards of one encoder of one sample, read by row of the sequence table."""

    def __init__(self, directory: Path, n_shards: int, n_rows: int, index_digest: str) -> None:
        """Open every shard; check that each is whole and all are of the same index and encoder.

        An older shard can still count as materialised, and a file can rot, so nothing is taken on
        trust here: every file is read once in full.

        Raises:
            StoreError: a shard is missing, damaged, of another index, or disagrees with the rest.
        """
        self.files = [verify_contents(shard_path(directory, s, n_shards)) for s in range(n_shards)]
        first = self.files[0]
        for shard, file in enumerate(self.files):
            wanted = Identity(
                encoder=first.identity.encoder,
                index_digest=index_digest,
                encoder_digest=first.identity.encoder_digest,
                dtype=first.identity.dtype,
                n_shards=n_shards,
                shard=shard,
                start=0,
                stop=shard_rows(n_rows, shard, n_shards),
            )
            if file.identity != wanted or file.dim != first.dim:
                raise StoreError(
                    f"{file.path}: was made from another index, encoder or precision than this "
                    "sample's other shards; materialise this shard again"
                )
        self.dim = first.dim
        self._maps = [_memory_map(file) for file in self.files]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of `rows` (n,) int64, shape (n, dim), float32."""
        values = np.empty((len(rows), self.dim), np.float32)
        shards, positions = rows % len(self._maps), rows // len(self._maps)
        for shard, mapped in enumerate(self._maps):
            of_shard = np.flatnonzero(shards == shard)
            values[of_shard] = mapped[positions[of_shard]]
        return values

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


def _memory_map(file: EmbeddingFile) -> np.ndarray:
    # Contiguous HDF5 data is plain bytes at an offset; numpy gathers scattered rows from a memory
    # map far faster than h5py's point selection does.
    with h5py.File(file.path, "r") as handle:
        shape, offset = handle["embeddings"].shape, handle["embeddings"].id.get_offset()
    if offset is None:
        return np.empty(shape, np.float32)
    return np.memmap(file.path, np.float32, "r", offset, shape)


def _pieces(dataset: h5py.Dataset, rows: int = 4096) -> Iterable[np.ndarray]:
    for start in range(0, len(dataset), rows):
        yield dataset[start : start + rows]


def _fields(kind: type[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    return {field.name: attributes[field.name] for field in fields(kind)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
