"""Heads, embeddings and indexes small enough to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from virnuc_assets.classifier.head import Head, HeadCard, load_head, save_head

INDEX = {"virnuc.index_digest": "toy-index"}
CARD = HeadCard(name="toy", label="toy", dna_dim=6, protein_dim=10, hidden_dim=8)


def random_weights(card: HeadCard, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in card.shapes().items()
    }
    weights["bn1.running_var"] = np.abs(weights["bn1.running_var"]) + np.float32(0.1)
    return weights


@dataclass(frozen=True)
class Rows:
    """A RowReader over an array in memory."""

    values: np.ndarray
    set_aside: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def take(self, rows: np.ndarray) -> np.ndarray:
        assert rows.dtype == np.int64
        return self.values[rows]


@pytest.fixture
def make_head(tmp_path: Path) -> Callable[..., Head]:
    def make(card: HeadCard = CARD, seed: int = 0) -> Head:
        directory = tmp_path / "heads" / f"{card.name}-{seed}"
        save_head(directory, card, random_weights(card, seed))
        return load_head(directory)

    return make


@pytest.fixture
def make_index(tmp_path: Path) -> Callable[[Sequence[tuple[str, int, list[str]]]], Path]:
    """Write an index from (id, number of chunks, open frames such as "1F1")."""

    def make(records: Sequence[tuple[str, int, list[str]]]) -> Path:
        directory = tmp_path / "index"
        directory.mkdir(exist_ok=True)
        frames = [
            (record, int(frame[:-2]), frame[-2:], f"{name}_chunk_{frame}")
            for record, (name, _, opened) in enumerate(records)
            for frame in opened
        ]
        n = len(frames)
        pl.DataFrame(
            {
                "ordinal": range(len(records)),
                "id": [name for name, _, _ in records],
                "length": [500 * n_chunks for _, n_chunks, _ in records],
                "n_chunks": [n_chunks for _, n_chunks, _ in records],
                "n_frames": [len(opened) for _, _, opened in records],
            },
            schema={
                "ordinal": pl.Int64,
                "id": pl.String,
                "length": pl.Int64,
                "n_chunks": pl.Int64,
                "n_frames": pl.Int64,
            },
        ).write_parquet(directory / "records.parquet", metadata=INDEX)
        pl.DataFrame(
            {
                "ordinal": range(n),
                "record": [frame[0] for frame in frames],
                "chunk": [frame[1] for frame in frames],
                "frame": [frame[2] for frame in frames],
                "name": [frame[3] for frame in frames],
                "nucleotide_row": [(7 * i) % max(n, 1) for i in range(n)],
                "protein_row": [n - 1 - i for i in range(n)],
            },
            schema={
                "ordinal": pl.Int64,
                "record": pl.Int64,
                "chunk": pl.Int64,
                "frame": pl.String,
                "name": pl.String,
                "nucleotide_row": pl.Int64,
                "protein_row": pl.Int64,
            },
        ).write_parquet(directory / "frames.parquet", metadata=INDEX)
        return directory

    return make


@pytest.fixture
def make_rows() -> Callable[..., tuple[Rows, Rows]]:
    """Embeddings of n frames for the toy head: (DNABERT-S, ESM-2)."""

    def make(n: int, seed: int = 1) -> tuple[Rows, Rows]:
        rng = np.random.default_rng(seed)
        return (
            Rows(rng.normal(size=(n, CARD.dna_dim)).astype(np.float32)),
            Rows(rng.normal(size=(n, CARD.protein_dim)).astype(np.float32)),
        )

    return make
