"""Labelled files and labelled features small enough to read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.features import EmbeddedSample, Features
from virnuc_assets.training.frames import LabelledFrames
from virnuc_assets.training.labelled import SPLITS

DNA_DIM, PROTEIN_DIM = 3, 5
STOPS = ("TAA", "TAG", "TGA")
SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in STOPS]


@dataclass(frozen=True)
class Rows:
    """A RowReader over an array in memory."""

    values: np.ndarray

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


@pytest.fixture
def write_fasta(tmp_path: Path) -> Callable[..., Path]:
    """Write records of random bases, with a share of G and C, under the ids given."""

    def write(name: str, ids: Sequence[str], gc: float = 0.5, length: int = 200) -> Path:
        rng = random.Random(name)
        shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(f">{one}\n{''.join(rng.choices('ACGT', shares, k=length))}\n" for one in ids)
        )
        return path

    return write


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Write lines, whose cells are parted by blanks, as a table of tab-separated columns."""

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join("\t".join(line.split(" ")) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def make_features() -> Callable[..., Features]:
    """Features of n frames of two samples, of genomes of 10 frames each.

    Parts take turns by genome. Viral features differ from others by `distance` deviations along
    one direction, around a mean that is far from zero.
    """

    def make(n: int, distance: float, seed: int = 0) -> Features:
        rng = np.random.default_rng(seed)
        genome = np.arange(n) // 10
        is_virus = genome % 2 == 1
        sample = (np.arange(n) % 3 == 0).astype(np.int32)
        values = rng.normal(size=(n, DNA_DIM + PROTEIN_DIM))
        values[is_virus, 0] += distance
        values = (values * rng.uniform(0.1, 30, 8) + rng.normal(0, 20, 8)).astype(np.float32)
        # Rows of the embeddings are in no order of the frames.
        row = rng.permutation(n)
        stored = np.empty_like(values)
        stored[row] = values
        reader = EmbeddedSample(Rows(stored[:, :DNA_DIM]), Rows(stored[:, DNA_DIM:]))
        frames = LabelledFrames(
            sample=sample,
            nucleotide_row=row,
            protein_row=row,
            record=genome.astype(np.int32),
            chunk_length=np.full(n, 500, np.int32),
            masked=np.zeros(n, bool),
            is_virus=is_virus,
            group=(genome % 4).astype(np.int32),
            genome=genome.astype(np.int32),
            split=((genome // 4) % len(SPLITS)).astype(np.int8),
            groups=("bacteria", "phage", "plant", "plant virus"),
            genomes=tuple(f"g{one}" for one in range(n // 10 + 1)),
        )
        return Features(frames, (reader, reader))

    return make


def coding(rng: np.random.Generator, bases: int, gc: float) -> str:
    """Codons without a stop, drawn by their G and C: one frame of any window of it is open."""
    chances = [np.prod([gc if base in "GC" else 1 - gc for base in codon]) for codon in SENSE]
    return "".join(rng.choice(SENSE, -(-bases // 3), p=chances / np.sum(chances)))[:bases]


@pytest.fixture
def make_corpus() -> Callable[..., Corpus]:
    """Phages, poor in G and C, and bacteria, rich in them; each stretch a genome of its own.

    Every fourth genome is for validation.
    """

    def make(genomes: int = 8, bases: int = 3600, seed: int = 0) -> Corpus:
        rng = np.random.default_rng(seed)
        is_virus = np.arange(2 * genomes) < genomes
        texts = [coding(rng, bases, 0.3 if virus else 0.7) for virus in is_virus]
        number = np.arange(2 * genomes) % genomes
        return Corpus(
            letters=np.frombuffer("".join(texts).encode(), np.uint8),
            offsets=np.cumsum([0, *map(len, texts)]),
            is_virus=is_virus,
            masked=np.zeros(2 * genomes, bool),
            group=np.where(is_virus, "phage", "bacteria"),
            genome=np.char.add(np.where(is_virus, "p", "b"), number.astype(str)),
            split=np.where(number % 4 == 3, "validation", "train"),
        )

    return make
