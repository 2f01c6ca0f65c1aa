"""Labelled FASTA files → a corpus to train encoders on. What is for testing stays out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyfastx

from virnuc_assets.evaluation.mask import read_mask
from virnuc_assets.training.corpus import Corpus, stretches
from virnuc_assets.training.labelled import LabelledRecord, read_labelled

SHORTEST = 150
"""Bases of the shortest stretch that is kept."""
_FEWEST_GENOMES = 3
_ENOUGH, _MOST, _LARGEST = 0.12, 0.16, 0.2


@dataclass(frozen=True)
class _Record:
    label: LabelledRecord
    letters: np.ndarray


def read_genomes(manifest: Path, records: Path, mask: Path | None, seed: int) -> Corpus:
    """The training and validation genomes of a manifest, see `labelled.read_labelled`.

    Genomes for validation are drawn: of each group with three or more about an eighth of the bases,
    and none that holds over a fifth of them. `splits.complete_splits` counts genomes and not bases,
    and may draw the one that most of a group is.

    Raises:
        InputError: a table or a FASTA file cannot be used.
    """
    labelled = read_labelled(manifest, records)
    found: list[_Record] = []
    for file in labelled.files:
        sequences = dict(pyfastx.Fastx(str(file)))
        for label in labelled.label(file, sequences):
            if label.split != "test":
                letters = np.frombuffer(sequences[label.record_id].upper().encode(), np.uint8)
                found.append(_Record(label, letters))
    return _joined(found, _held_out(found, seed), None if mask is None else read_mask(mask))


def _held_out(records: Sequence[_Record], seed: int) -> set[tuple[str, str]]:
    """Groups and genomes for validation."""
    rng = np.random.default_rng(seed)
    bases: dict[str, Counter[str]] = {}
    for record in records:
        of_group = bases.setdefault(record.label.group, Counter())
        of_group[record.label.genome] += record.letters.size
    held: set[tuple[str, str]] = set()
    for group, of_group in sorted(bases.items()):
        if len(of_group) < _FEWEST_GENOMES:
            continue
        taken = 0
        for genome in rng.permutation(sorted(of_group)):
            size = of_group[str(genome)]
            if size > _LARGEST * of_group.total() or taken + size > _MOST * of_group.total():
                continue
            held.add((group, str(genome)))
            taken += size
            if taken >= _ENOUGH * of_group.total():
                break
    return held


def _joined(
    records: Sequence[_Record], held: set[tuple[str, str]], mask: pl.DataFrame | None
) -> Corpus:
    intervals = {} if mask is None else {str(name): of for (name,), of in mask.group_by("id")}
    none = np.empty((0, 2), np.int64)
    letters: list[np.ndarray] = []
    rows: list[tuple[LabelledRecord, bool]] = []
    for record in records:
        label = record.label
        of_record = intervals.get(label.record_id)
        hidden = none if of_record is None else of_record.select("start", "end").to_numpy()
        for start, stop in stretches(record.letters, hidden.reshape(-1), SHORTEST):
            letters.append(record.letters[start:stop])
            rows.append((label, bool(((hidden[:, 0] <= start) & (stop <= hidden[:, 1])).any())))
    return Corpus(
        letters=np.concatenate(letters),
        offsets=np.cumsum([0, *map(len, letters)]),
        is_virus=np.array([label.is_virus for label, _ in rows]),
        masked=np.array([masked for _, masked in rows]),
        group=np.array([label.group for label, _ in rows]),
        genome=np.array([label.genome for label, _ in rows]),
        split=np.array(
            ["validation" if (label.group, label.genome) in held else "train" for label, _ in rows]
        ),
    )
