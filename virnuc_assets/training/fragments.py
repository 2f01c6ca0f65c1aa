"""Windows of labelled genomes → their stop-free frames, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from virnuc_assets.errors import InputError
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


def genome_weights(corpus: Corpus, stretches: np.ndarray) -> np.ndarray:
    """How often to draw windows of `stretches` (m,), int64, of one group; (m,) float64.

    Within a stretch by bases, and between genomes by the square root of theirs: fewer repetitions
    of the small ones than by equal shares, less of the large ones than by bases.
    """
    bases = corpus.lengths[stretches].astype(np.float64)
    _, genome = np.unique(corpus.genome[stretches], return_inverse=True)
    return bases / np.sqrt(np.bincount(genome, bases)[genome])


def random_starts(
    corpus: Corpus, stretch: np.ndarray, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Places in stretches `stretch` (m,), int64, where windows of `length` fit; (m,) int64."""
    room = corpus.lengths[stretch] - length + 1
    return (rng.random(len(stretch)) * room).astype(np.int64)


class Draw:
    """Windows of one length, drawn at random: the group first, then the genome, then the place.

    Groups are drawn so that their stop-free frames come in the proportions of `shares`; a group
    without a share, or without such frames, is not drawn. Genomes of a group are drawn as
    `genome_weights` says. Masked stretches are not drawn.

    Args:
        corpus: where from.
        shares: in which proportions frames of the groups come.
        length: bases of a window.

    Raises:
        InputError: the corpus has nothing to draw from.
    """

    def __init__(self, corpus: Corpus, shares: Mapping[str, float], length: int) -> None:
        self.corpus, self.length = corpus, length
        self._stretches = np.flatnonzero((corpus.lengths >= length) & ~corpus.masked)
        group = corpus.group[self._stretches]
        weight = np.zeros(len(group))
        rng = np.random.default_rng(length)
        for name in np.unique(group):
            of_group = group == name
            weight_in_group = np.zeros(len(group))
            weight_in_group[of_group] = genome_weights(corpus, self._stretches[of_group])
            found = self._frames(rng, np.cumsum(weight_in_group), _TRIAL_WINDOWS)
            if not len(found):
                continue
            share = shares.get(str(name), 0.0) / (len(found) / _TRIAL_WINDOWS)
            weight += weight_in_group * (share / weight_in_group.sum())
        self._cumulative = np.cumsum(weight)
        if not weight.any():
            raise InputError(
                f"the corpus: has no open frame of {length} unmasked bases in the groups that are "
                f"drawn ({', '.join(shares)}); give records of these groups, named so in the "
                "manifest"
            )

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
        start = random_starts(self.corpus, stretch, self.length, rng)
        return frames_of(self.corpus, stretch, start, self.length)
