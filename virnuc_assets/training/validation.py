"""Genomes held out from training: how well a model does on their frames, and on spans of 3 kb."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from virnuc_assets.evaluation.metrics import balanced_weights
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.fragments import Fragments, frames_of, genome_weights, random_starts
from virnuc_assets.training.margins import balanced_auroc, margins

KINDS = {
    "phage": "phage",
    "archaeal-virus": "phage",
    "plant-rna-virus": "RNA virus",
    "plant-virus": "RNA virus",
    "vertebrate-rna-virus": "RNA virus",
    "retrovirus": "RNA virus",
    "plant-dna-virus": "eukaryotic DNA virus",
    "vertebrate-dna-virus": "eukaryotic DNA virus",
    "invertebrate-dna-virus": "eukaryotic DNA virus",
    "giant-virus-associated": "eukaryotic DNA virus",
    "bacteria": "bacteria",
    "plasmid": "bacteria",
    "archaea": "archaea",
    "fungi": "eukaryote",
    "invertebrate": "eukaryote",
    "plant": "eukaryote",
    "protist": "eukaryote",
    "vertebrate": "eukaryote",
    "mitochondrion": "eukaryote",
    "plastid": "eukaryote",
}
"""What a group counts as. Kinds of a class weigh the same when a model is measured."""

_LENGTHS = (500, 300)
_WINDOWS = 2000
"""Of a group and length."""
_SPAN_CHUNKS, _CHUNK = 6, 500
_SPANS = 300
"""Of a group; each is of `_SPAN_CHUNKS` chunks."""
_SEED = 11

Score = Callable[[Fragments], np.ndarray]
"""Gives logits of (others, virus), float32 (n, 2)."""


class Validation:
    """Frames of windows drawn once, the same number of windows from every group.

    Mitochondria are left out: a few frames of ten genomes would stand for all eukaryotes. So are
    masked stretches. A group that is in no kind is one of its own.

    Args:
        corpus: the genomes held out.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._kind = np.array([KINDS.get(str(group), str(group)) for group in corpus.group])
        self._usable = ~corpus.masked & (corpus.group != "mitochondrion")
        rng = np.random.default_rng(_SEED)
        self._frames = {
            length: frames_of(corpus, *self._windows(rng, length, _WINDOWS), length)
            for length in _LENGTHS
        }
        stretch, start = self._windows(rng, _SPAN_CHUNKS * _CHUNK, _SPANS)
        chunk = start[:, None] + np.arange(_SPAN_CHUNKS) * _CHUNK
        each = np.repeat(stretch, _SPAN_CHUNKS)
        self._span_stretch = stretch
        self._span_frames = frames_of(corpus, each, chunk.reshape(-1), _CHUNK)

    def measure(self, score: Score) -> dict[str, float]:
        """AUROC of frames by length, of spans of 3 kb, and their mean; kinds weigh the same.

        The margin of a span is the mean over its chunks of each one's best frame; spans without an
        open frame are left out.
        """
        found = {
            f"auroc_{length}": self._auroc(frames.stretch, margins(score(frames)))
            for length, frames in self._frames.items()
        }
        best = np.full(len(self._span_stretch) * _SPAN_CHUNKS, -np.inf)
        np.maximum.at(best, self._span_frames.window, margins(score(self._span_frames)))
        by_span = best.reshape(-1, _SPAN_CHUNKS)
        called = np.isfinite(by_span)
        some = called.any(axis=1)
        mean = np.where(called, by_span, 0).sum(axis=1)[some] / called.sum(axis=1)[some]
        found["auroc_3kb"] = self._auroc(self._span_stretch[some], mean)
        return {**found, "mean": float(np.mean(list(found.values())))}

    def calibration(self, score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits (n, 2), labels (n,) and weights (n,) of the frames of all lengths."""
        logits = np.concatenate([score(frames) for frames in self._frames.values()])
        stretch = np.concatenate([frames.stretch for frames in self._frames.values()])
        is_virus = self._corpus.is_virus[stretch]
        return logits, is_virus, balanced_weights(self._kind[stretch], is_virus)

    def _auroc(self, stretch: np.ndarray, margin: np.ndarray) -> float:
        return balanced_auroc(margin, self._kind[stretch], self._corpus.is_virus[stretch])

    def _windows(
        self, rng: np.random.Generator, length: int, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`count` windows of each group: stretches and starts, int64."""
        corpus = self._corpus
        stretches: list[np.ndarray] = []
        for group in np.unique(corpus.group):
            of = np.flatnonzero((corpus.group == group) & self._usable & (corpus.lengths >= length))
            if not len(of):
                continue
            weight = genome_weights(corpus, of)
            stretches.append(rng.choice(of, count, p=weight / weight.sum()))
        stretch = np.concatenate(stretches)
        return stretch, random_starts(corpus, stretch, length, rng)
