"""What an explanation of a record's call is made of; JSON-ready by `dataclasses.asdict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """A stop-free frame of a chunk; its rows of the index's two sequence tables."""

    frame: str
    name: str
    score_other: float | None
    score_virus: float | None
    """None, as the other: its nucleotides or protein were set aside."""
    is_best: bool
    nucleotide_row: int
    protein_row: int


@dataclass(frozen=True)
class Chunk:
    """A chunk of the record, bases `first_base` to `last_base` of it, counted from 1."""

    chunk: int
    first_base: int
    last_base: int
    is_virus: bool | None
    """None, as are the scores: it has no scored frame."""
    score_other: float | None
    score_virus: float | None
    log_odds: float | None
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Shard:
    """A file of embeddings that has rows of this record, and the SHA-256 of its embeddings."""

    file: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Encoder:
    """What one encoder's part of the scores comes from."""

    encoder: str
    model: str
    weights_digest: str
    encoder_digest: str
    precision: str
    backend: str
    engine: str
    device: str
    token_budget: int
    shards_digest: str
    """Of all shards of the sample."""
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class Origin:
    """What the call comes from, besides the encoders."""

    input: str
    input_bytes: int
    input_sha256: str
    tool_version: str
    index_tool_version: str
    index_digest: str
    chunk_length: int
    head: str
    head_digest: str
    results: str
    results_files: dict[str, str]
    """SHA-256 of the result files, by name."""


@dataclass(frozen=True)
class Explanation:
    """A record's call and where every number of it comes from."""

    sample: str
    model: str
    record: dict[str, Any]
    """Its row of `records.parquet`."""
    chunks: tuple[Chunk, ...]
    origin: Origin
    encoders: tuple[Encoder, ...]
