"""Classifiers of frames that know composition alone, to hold an encoder against.

Fitted on frames of the training genomes; how strictly, is chosen by AUROC on the validation
genomes, and scores are calibrated there by one temperature, as the mini head's are. They score the
frames of an index and leave results that are read as any model's are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from virnuc_assets.classifier import result_files
from virnuc_assets.evaluation.metrics import balanced_weights
from virnuc_assets.sequences.manifest import FRAMES_FILE, NUCLEOTIDES_FILE, PROTEINS_FILE
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.training.calibration import fit_temperature
from virnuc_assets.training.corpus import Corpus
from virnuc_assets.training.fragments import Draw, Fragments
from virnuc_assets.training.mini import SHARES
from virnuc_assets.training.validation import KINDS

VALIDATION_FRAMES = 16_000
BLOCK = 8192
_RESIDUES = b"ACDEFGHIKLMNPQRSTVWY"

Featurise = Callable[[Sequence[str], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """A model: its name, its features, what scores them, and how it came about."""

    name: str
    featurise: Featurise
    classifier: Any
    temperature: float
    facts: dict[str, Any]

    def margin(self, nucleotides: Sequence[str], proteins: Sequence[str]) -> np.ndarray:
        """Calibrated log-odds of virus, (n,)."""
        features = self.featurise(nucleotides, proteins)
        return np.asarray(self.classifier.decision_function(features)) / self.temperature


def words(sequences: Sequence[str], letters: bytes, length: int, step: int = 1) -> np.ndarray:
    """Shares of the words of `length` letters, at every `step`-th place; (n, letters ** length).

    Words with a letter other than `letters` do not count; a sequence without words has zeros.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    code = np.full(256, len(letters))
    code[np.frombuffer(letters, np.uint8)] = np.arange(len(letters))
    codes = code[np.frombuffer("".join(sequences).encode(), np.uint8)]
    owner = np.repeat(np.arange(len(sequences)), lengths)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = np.flatnonzero((place % step == 0) & (place + length <= lengths[owner]))
    each = [codes[first + number] for number in range(length)]
    plain = np.all([one < len(letters) for one in each], axis=0)
    number = np.zeros(len(first), np.int64)
    for one in each:
        number = number * len(letters) + one
    size = len(letters) ** length
    count = np.bincount((owner[first] * size + number)[plain], minlength=len(sequences) * size)
    table = count.reshape(len(sequences), size).astype(np.float32)
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1)


def five_mers(nucleotides: Sequence[str], proteins: Sequence[str]) -> np.ndarray:
    """(n, 1024)."""
    return words(nucleotides, b"ACGT", 5)


def four_mers_and_codons(nucleotides: Sequence[str], proteins: Sequence[str]) -> np.ndarray:
    """4-mers at every place, and codons in frame; (n, 320)."""
    return np.hstack([words(nucleotides, b"ACGT", 4), words(nucleotides, b"ACGT", 3, step=3)])


def codons_and_residues(nucleotides: Sequence[str], proteins: Sequence[str]) -> np.ndarray:
    """Codons in frame, residues, and pairs of neighbouring residues; (n, 484)."""
    parts = [words(nucleotides, b"ACGT", 3, step=3)]
    return np.hstack([*parts, words(proteins, _RESIDUES, 1), words(proteins, _RESIDUES, 2)])


def in_blocks(
    featurise: Callable[[Sequence[str], Sequence[str]], np.ndarray],
    nucleotides: Sequence[str],
    proteins: Sequence[str],
) -> np.ndarray:
    """What `featurise` makes of them all; the counts of a block alone are in memory."""
    return np.concatenate(
        [
            featurise(nucleotides[start : start + BLOCK], proteins[start : start + BLOCK])
            for start in range(0, len(nucleotides), BLOCK)
        ]
    )


def _regressions() -> list[tuple[dict[str, Any], Any]]:
    return [
        (
            {"C": c},
            make_pipeline(StandardScaler(), LogisticRegression(C=c, solver="newton-cholesky")),
        )
        for c in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
    ]


def _boosted() -> list[tuple[dict[str, Any], Any]]:
    grid = [
        {"max_leaf_nodes": leaves, "max_iter": trees} for leaves in (4, 16) for trees in (100, 400)
    ]
    return [
        (one, HistGradientBoostingClassifier(**one, early_stopping=False, random_state=0))
        for one in grid
    ]


BASELINES: tuple[tuple[str, Featurise, Callable[[], list[tuple[dict[str, Any], Any]]]], ...] = (
    ("5-mers, logistic regression", five_mers, _regressions),
    ("4-mers and codons, boosted trees", four_mers_and_codons, _boosted),
    ("codons and residues, log. regression", codons_and_residues, _regressions),
)


def draw_training(corpus: Corpus, length: int, count: int) -> tuple[Corpus, Fragments]:
    """The training genomes, and frames of windows of them, drawn as the mini model's are."""
    known = corpus.chosen(corpus.split == "train")
    return known, Draw(known, SHARES, length).exactly(np.random.default_rng(length), count)


def fit_baselines(corpus: Corpus, length: int, count: int) -> list[Fitted]:
    """Fit each model on `count` frames of windows of `length` bases."""
    known, training = draw_training(corpus, length, count)
    held = corpus.chosen(corpus.split == "validation")
    # Mitochondria alone would stand for all eukaryotes there.
    shares = {group: share for group, share in SHARES.items() if group != "mitochondrion"}
    draw = Draw(held, shares, length)
    validation = draw.exactly(np.random.default_rng(length), VALIDATION_FRAMES)
    is_virus = held.is_virus[validation.stretch]
    kind = np.array([KINDS[str(group)] for group in held.group[validation.stretch]])
    weight = balanced_weights(kind, is_virus)
    fitted = []
    for name, featurise, candidates in BASELINES:
        began = time.monotonic()
        of_training = in_blocks(featurise, training.nucleotides, training.proteins)
        of_validation = in_blocks(featurise, validation.nucleotides, validation.proteins)
        tried, best, classifier, margin = [], -1.0, None, np.empty(0)
        for settings, candidate in candidates():
            candidate.fit(of_training, known.is_virus[training.stretch])
            its_margin = np.asarray(candidate.decision_function(of_validation))
            auroc = float(roc_auc_score(is_virus, its_margin, sample_weight=weight))
            tried.append({**settings, "validation_auroc": round(auroc, 5)})
            print(f"{name}, {length}: {tried[-1]}", flush=True)
            if auroc > best:
                best, classifier, margin = auroc, candidate, its_margin
        logits = np.stack([np.zeros_like(margin), margin], axis=1)
        temperature = fit_temperature(logits, is_virus, weight)
        facts = {
            "tried": tried,
            "temperature": round(temperature, 4),
            "seconds": round(time.monotonic() - began, 1),
        }
        fitted.append(Fitted(name, featurise, classifier, temperature, facts))
    return fitted


@dataclass(frozen=True)
class IndexedFrames:
    """The stop-free frames of an index, (n,) each; sequences by row of their tables."""

    table: pl.DataFrame
    nucleotides: SequenceTable
    proteins: SequenceTable

    def blocks(self, apply: Featurise) -> np.ndarray:
        """What `apply` makes of the frames' nucleotides and proteins, in the frames' order."""
        rows = self.table.select("nucleotide_row", "protein_row").to_numpy()
        return np.concatenate(
            [
                apply(self.nucleotides.take(part[:, 0]), self.proteins.take(part[:, 1]))
                for part in np.split(rows, range(BLOCK, len(rows), BLOCK))
            ]
        )


def open_index(index: Path) -> IndexedFrames:
    """The frames of the index in a folder."""
    return IndexedFrames(
        pl.read_parquet(index / FRAMES_FILE).sort("ordinal"),
        SequenceTable(index / NUCLEOTIDES_FILE),
        SequenceTable(index / PROTEINS_FILE),
    )


def score_with_baselines(models: Sequence[Fitted], index: Path, results: Path) -> dict[str, Path]:
    """Write each model's scores to `baseline NAME`, beside `results`, for `read_scored`.

    They have frames and records in common with the results; the rule from frames to records is
    the reader's. Returns the folders by name.
    """
    folders = {}
    frames = open_index(index)
    of_results = pl.read_parquet(results / result_files.FRAMES)
    for model in models:
        folder = results.parent / f"baseline {model.name}"
        folder.mkdir(exist_ok=True)
        shutil.copy(results / result_files.RECORDS, folder)
        margin = frames.blocks(model.margin)
        score = pl.DataFrame(
            {
                "ordinal": frames.table["ordinal"],
                "virus": (1 + np.tanh(margin / 2)) / 2,
                "other": (1 - np.tanh(margin / 2)) / 2,
            }
        )
        of_results.join(score, on="ordinal", how="left", maintain_order="left").with_columns(
            # Frames that the encoders could not embed are scored by none.
            score_virus=pl.when(pl.col("score_virus").is_not_null()).then("virus"),
            score_other=pl.when(pl.col("score_other").is_not_null()).then("other"),
        ).drop("virus", "other").write_parquet(folder / result_files.FRAMES)
        folders[model.name] = folder
    return folders
