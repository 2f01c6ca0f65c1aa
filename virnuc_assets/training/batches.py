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
from virnuc_assets.training.encoders import Rows, pad_rows
from virnuc_assets.training.fragments import Draw, Fragments
from virnuc_assets.training.relatives import Relatives

_PADDED_TO = 8


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

    Attributes:
        frames: in a batch, all of windows of one length.
        lengths: bases of windows, and how often a batch has such.
        shares: in which proportions frames of the groups come (`Draw`).
        diverged: the largest share of a frame's codons that is replaced (`Relatives`).
        seed: of all that is drawn.
    """

    frames: int
    lengths: Mapping[int, float]
    shares: Mapping[str, float]
    diverged: float
    seed: int


class _Endless(IterableDataset[Batch]):
    """Batches without end; every process that makes them draws others."""

    def __init__(self, corpus: Corpus, folder: Path, plan: Plan) -> None:
        self.corpus, self.folder, self.plan = corpus, folder, plan

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are many such processes
        rng = np.random.default_rng([self.plan.seed, worker.id if worker else 0])
        tokens = Tokens(self.folder)
        draws = [Draw(self.corpus, self.plan.shares, length) for length in self.plan.lengths]
        chances = np.array(list(self.plan.lengths.values()))
        relatives = Relatives(draws[0], self.plan.diverged, rng)
        while True:
            draw = draws[rng.choice(len(draws), p=chances / chances.sum())]
            yield tokens.batch(relatives.of(draw.exactly(rng, self.plan.frames)))


def batches(corpus: Corpus, folder: Path, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches without end, made by `workers` processes (0: by this one, when asked for).

    They are the same for one plan and one number of workers.

    Args:
        corpus: where the fragments are from; has both classes.
        folder: that of the DNA tokeniser.
        plan: what is drawn.
        workers: how many processes.

    Raises:
        InputError: the corpus has nothing to draw from; comes with the first batch.
    """
    loader = DataLoader(
        _Endless(corpus, folder, plan),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)
