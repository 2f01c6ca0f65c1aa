"""Features of frames, streamed from the embeddings of any number of samples.

A frame's features are its DNABERT-S embedding and then its ESM-2 embedding. They are read from
memory-mapped shards when they are needed and are never all in memory: a `Shuffled` pass holds
`BUFFER_BYTES` of them whatever the data's size, and what the system keeps of the files in its cache
makes later passes quicker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from virnuc_assets.training.frames import LabelledFrames

BUFFER_BYTES = 1 << 28
"""Features held for shuffling."""
_RUN_FRAMES = 1024


class RowReader(Protocol):
    """Embeddings by row of a sequence table."""

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings (n, dim) float32 of `rows` (n,) int64, in that order; rows may repeat."""
        ...


@dataclass(frozen=True)
class EmbeddedSample:
    """The embeddings of a sample's nucleotides and of its proteins."""

    dna: RowReader
    protein: RowReader


@dataclass(frozen=True)
class Features:
    """The features of labelled frames."""

    frames: LabelledFrames
    samples: Sequence[EmbeddedSample]

    @property
    def dims(self) -> tuple[int, int]:
        """Widths of the DNABERT-S and of the ESM-2 part."""
        return self.samples[0].dna.dim, self.samples[0].protein.dim

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Features (m, d) float32 of frames `rows` (m,) int64, in that order; rows may repeat."""
        frames, split = self.frames, self.dims[0]
        values = np.empty((len(rows), sum(self.dims)), np.float32)
        of_sample = frames.sample[rows]
        for number in np.unique(of_sample):
            mine = np.flatnonzero(of_sample == number)
            sample = self.samples[number]
            values[mine, :split] = sample.dna.take(frames.nucleotide_row[rows[mine]])
            values[mine, split:] = sample.protein.take(frames.protein_row[rows[mine]])
        return values


def in_order(features: Features, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the features of `rows`, `size` frames at a time."""
    for start in range(0, len(rows), size):
        yield features.take(rows[start : start + size])


def shuffled(
    features: Features,
    rows: np.ndarray,
    size: int,
    rng: np.random.Generator,
    buffer_bytes: int = BUFFER_BYTES,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features (size, d) float32 and labels (size,) bool of `rows` (m,) in a random order.

    Runs of 1024 consecutive rows are read in a random order into a buffer of `buffer_bytes`, which
    is shuffled and given out. The last batch of a buffer joins the next buffer; what is left over
    at the end is dropped, so that every batch has `size` rows.
    """
    rows = np.sort(rows)
    starts = rng.permutation(np.arange(0, len(rows), _RUN_FRAMES))
    runs = max(1, buffer_bytes // (4 * sum(features.dims) * _RUN_FRAMES))
    left = np.empty(0, np.int64)
    for first in range(0, len(starts), runs):
        chosen = [rows[start : start + _RUN_FRAMES] for start in starts[first : first + runs]]
        # In ascending order neighbours in a file are read together.
        held = np.sort(np.concatenate([left, *chosen]))
        values, labels = features.take(held), features.frames.is_virus[held]
        order = rng.permutation(len(held))
        whole = len(held) - len(held) % size
        for start in range(0, whole, size):
            batch = order[start : start + size]
            yield values[batch], labels[batch]
        left = held[order[whole:]]
        del values, labels  # so that there is one buffer and not two while the next is read
