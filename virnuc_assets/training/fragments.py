"""Windows of labelled genomes → their stop-free frames, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from virnuc_assets.sequences.frames import open_frames
from virnuc_assets.training.corpus import Corpus

_TRIAL_WINDOWS = 2000


@dataclass(frozen=True)
class Fragments:
    """Stop-free frames of windows.

    Attributes:
        nucleotides: n strings.
        proteins: n strings.
        stretch: which of the corpus' stretches each is of, int64, (n,).
        window: which of the windows, int64, (n,).
    """

    nucleotides: list[str]
    proteins: list[str]
    stretch: np.ndarray
    window: np.ndarray

    def __len__(self) -> int:
        return len(self.stretch)

    def part(self, which: slice) -> Fragments:
        """Consecutive ones of them."""
        return Fragments(
            self.nucleotides[which], self.proteins[which], self.stretch[which], self.window[which]
        )


def frames_of(corpus: Corpus, stretch: np.ndarray, start: np.ndarray, length: int) -> Fragments:
    """The stop-free frames of windows of `length` bases.

    Args:
        corpus: where from.
        stretch: each window's stretch, int64, (m,).
        start: where it starts in the stretch, int64, (m,).
        length: bases of every window.
    """
    begin = corpus.offsets[stretch] + start
    letters = corpus.letters[begin[:, None] + np.arange(length)].reshape(-1)
    edges = np.arange(len(stretch) + 1) * length
    found = open_frames(letters, edges[:-1], edges[1:])
    return Fragments(
        found.nucleotides.to_pylist(),
        found.proteins.to_pylist(),
        stretch[found.chunk],
        found.chunk,
    )


class Draw:
    """Windows of one length, drawn at random: the group first, then the genome, then the place.

    Groups are drawn so that their stop-free frames come in the proportions of `shares`; a group
    without a share is not drawn. Genomes of a group are drawn by the square root of their bases:
    fewer repetitions of the small ones than by equal shares, less of the large ones than by bases.
    Masked stretches are not drawn.
    """

    def __init__(self, corpus: Corpus, shares: Mapping[str, float], length: int) -> None:
        self.corpus, self.length = corpus, length
        self._stretches = np.flatnonzero((corpus.lengths >= length) & ~corpus.masked)
        group = corpus.group[self._stretches]
        bases = corpus.lengths[self._stretches].astype(np.float64)
        names = np.char.add(np.char.add(group, "\n"), corpus.genome[self._stretches])
        _, genome = np.unique(names, return_inverse=True)
        weight = bases / np.sqrt(np.bincount(genome, bases)[genome])
        rng = np.random.default_rng(length)
        for name in np.unique(group):
            of_group = group == name
            its_weight = weight * of_group
            found = self._frames(rng, np.cumsum(its_weight), _TRIAL_WINDOWS)
            frames_a_window = max(len(found), 1) / _TRIAL_WINDOWS
            share = shares.get(str(name), 0.0) / frames_a_window
            weight[of_group] *= share / its_weight.sum()
        self._cumulative = np.cumsum(weight)

    def fragments(self, rng: np.random.Generator, windows: int) -> Fragments:
        """The stop-free frames of so many windows."""
        return self._frames(rng, self._cumulative, windows)

    def exactly(self, rng: np.random.Generator, count: int) -> Fragments:
        """`count` stop-free frames, of as many windows as it takes; `window` is −1."""
        parts: list[Fragments] = []
        while sum(map(len, parts)) < count:
            parts.append(self.fragments(rng, count))
        stretch = np.concatenate([part.stretch for part in parts])
        return Fragments(
            [frame for part in parts for frame in part.nucleotides],
            [frame for part in parts for frame in part.proteins],
            stretch,
            np.full_like(stretch, -1),
        ).part(slice(count))

    def _frames(self, rng: np.random.Generator, cumulative: np.ndarray, windows: int) -> Fragments:
        at = np.searchsorted(cumulative, rng.random(windows) * cumulative[-1], side="right")
        stretch = self._stretches[np.minimum(at, len(cumulative) - 1)]
        room = self.corpus.lengths[stretch] - self.length + 1
        start = (rng.random(windows) * room).astype(np.int64)
        return frames_of(self.corpus, stretch, start, self.length)
