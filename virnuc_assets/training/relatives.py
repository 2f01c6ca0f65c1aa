"""Drawing how far, and towards whose codons, each training frame is changed."""

from __future__ import annotations

import numpy as np

from virnuc_assets.training.divergence import Divergence, codon_usage
from virnuc_assets.training.fragments import Draw, Fragments

_USAGE_WINDOWS = 40_000
_UNCHANGED = 0.25
_TAKES_ON_ANOTHERS = 0.5


class Relatives:
    """Frames with codons replaced (`Divergence`), every fourth left as it is.

    Half take on the codon usage of another genome of their class: what all genomes of a class have
    in common is to be learnt, not each one's signature. Usage is that of 40 000 windows.

    Args:
        draw: of the corpus whose frames are changed.
        most: the largest share of a frame's codons that is replaced.
        rng: draws now, for the usage, and whenever `of` is called.
    """

    def __init__(self, draw: Draw, most: float, rng: np.random.Generator) -> None:
        corpus = draw.corpus
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
