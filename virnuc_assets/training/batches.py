"""Random fragments → padded token batches, made by processes ahead of training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from virnuc_assets.encoders import alphabet
from virnuc_assets.encoders.byte_pairs import load_tokeniser
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.divergence import Divergence, codon_usage
from virnuc_assets.training.encoders import Rows, pad_rows
from virnuc_assets.training.fragments import Draw, Fragments

_PADDED_TO = 8
_USAGE_WINDOWS = 40_000
_UNCHANGED = 0.25
_TAKES_ON_ANOTHERS = 0.5


@dataclass(frozen=True)
class Batch:
    """Frames as both encoders take them; `stretch`: each one's in the corpus, int64, (b,)."""

    dna: Rows
    protein: Rows
    stretch: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        stretch = self.stretch.to(device, non_blocking=True)
        return Batch(self.dna.to(device), self.protein.to(device), stretch)


class Tokens:
    """Tokenises frames for both encoders, as the engine does.

    Args:
        folder: that of the DNA tokeniser.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenise, self._frame = load_tokeniser(folder)

    def batch(self, fragments: Fragments) -> Batch:
        """All of `fragments`, padded."""
        dna = pad_rows(
            *self._tokenise(fragments.nucleotides),
            self._frame.first,
            self._frame.last,
            self._frame.padding,
            count_special=True,
            multiple=_PADDED_TO,
        )
        protein = pad_rows(
            *alphabet.tokenise(fragments.proteins),
            alphabet.CLS,
            alphabet.EOS,
            alphabet.PAD,
            count_special=False,
            multiple=_PADDED_TO,
        )
        return Batch(dna, protein, torch.from_numpy(fragments.stretch))


@dataclass(frozen=True)
class Plan:
    """What is drawn.

    `frames` a batch, all of windows of one of `lengths` (bases: how often), groups by `shares`
    (see `Draw`). Up to `diverged` of a frame's codons are replaced.
    """

    frames: int
    lengths: Mapping[int, float]
    shares: Mapping[str, float]
    diverged: float
    seed: int


class _Endless(IterableDataset[Batch]):
    def __init__(self, corpus: Corpus, folder: Path, plan: Plan) -> None:
        self.corpus, self.folder, self.plan = corpus, folder, plan

    def __iter__(self) -> Iterator[Batch]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        worker = get_worker_info()
        rng = np.random.default_rng([self.plan.seed, worker.id if worker else 0])
        tokens = Tokens(self.folder)
        draws = [Draw(self.corpus, self.plan.shares, length) for length in self.plan.lengths]
        chances = np.array(list(self.plan.lengths.values()))
        relatives = _Relatives(self.corpus, draws[0], self.plan.diverged, rng)
        while True:
            draw = draws[rng.choice(len(draws), p=chances / chances.sum())]
            yield tokens.batch(relatives.of(draw.exactly(rng, self.plan.frames)))


class _Relatives:
    """Frames with codons replaced, every fourth left as it is.

    Half take on the codon usage of another genome of their class: what all genomes of a class have
    in common is to be learnt, not each one's signature.
    """

    def __init__(self, corpus: Corpus, draw: Draw, most: float, rng: np.random.Generator) -> None:
        _, self._genome = np.unique(corpus.genome, return_inverse=True)
        seen = draw.fragments(rng, _USAGE_WINDOWS)
        usage = codon_usage(seen, self._genome[seen.stretch], int(self._genome.max()) + 1)
        self._divergence, self._most, self._rng = Divergence(usage), most, rng
        self._is_virus = corpus.is_virus
        self._of_class = [np.unique(self._genome[corpus.is_virus == one]) for one in (False, True)]

    def of(self, fragments: Fragments) -> Fragments:
        """Relatives of the fragments."""
        rng, count = self._rng, len(fragments)
        share = self._most * rng.random(count) * (rng.random(count) >= _UNCHANGED)
        usage_of = self._genome[fragments.stretch].copy()
        another = rng.random(count) < _TAKES_ON_ANOTHERS
        virus = self._is_virus[fragments.stretch]
        for one, genomes in zip((False, True), self._of_class, strict=True):
            which = another & (virus == one)
            usage_of[which] = rng.choice(genomes, which.sum())
        return self._divergence.apply(fragments, usage_of, share, rng)


def batches(corpus: Corpus, folder: Path, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches without end, made by `workers` processes (0: by this one, when asked for).

    They are the same for one seed and one number of workers.

    Args:
        corpus: where the fragments are from.
        folder: that of the DNA tokeniser.
        plan: what is drawn.
        workers: how many processes.
    """
    loader = DataLoader(
        _Endless(corpus, folder, plan),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
