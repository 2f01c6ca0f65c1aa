"""Labelled FASTA files → a corpus to train encoders on. What is for testing stays out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from virnuc_assets.evaluation.mask import read_mask
from virnuc_assets.sequences.input_file import open_input
from virnuc_assets.sequences.parallel import usable_cores
from virnuc_assets.training.corpus import Corpus, stretches
from virnuc_assets.training.frames import NO_MASK
from virnuc_assets.training.labelled import LabelledFiles, LabelledRecord, read_labelled
from virnuc_assets.training.splits import check_classes

SHORTEST = 150
"""Bases of the shortest stretch that is kept."""
_FEWEST_GENOMES = 3
_ENOUGH, _MOST, _LARGEST = 0.12, 0.16, 0.2


@dataclass(frozen=True)
class _Record:
    """A record and its letters, upper-case ASCII, uint8."""

    label: LabelledRecord
    letters: np.ndarray


def read_genomes(manifest: Path, records: Path | None, mask: Path | None, seed: int) -> Corpus:
    """The training and validation genomes of a manifest and its records (`read_labelled`).

    Genomes for validation are drawn unless the tables give some that split: of each group with
    three or more about an eighth of the bases, and none that holds over a fifth of them.
    `splits.complete_splits` counts genomes and not bases, and may draw the one that most of a group
    is. A genome with records of several groups is drawn in each group for itself.

    Args:
        manifest: table of FASTA files.
        records: table of their records.
        mask: table of intervals not to learn from (`read_mask`).
        seed: of the drawing.

    Raises:
        InputError: a table or a FASTA file cannot be used, or a part lacks one of the classes.
    """
    labelled = read_labelled(manifest, records)
    places = NO_MASK if mask is None else read_mask(mask)
    known = [
        record
        for file in labelled.files
        for record in _read(labelled, file)
        if record.label.split != "test"
    ]
    return _joined(manifest, _with_validation(known, seed), places)


def _read(labelled: LabelledFiles, file: Path) -> Iterator[_Record]:
    from virnuc_assets.sequences.scan import scan  # compiles, or loads machine code

    ids: list[str] = []
    letters: list[np.ndarray] = []
    with open_input(file) as source, TemporaryDirectory() as scratch:
        blocks = scan(source, "nucleotide", lambda x: x, Path(scratch), threads=usable_cores())
        for block in blocks:
            ids += block.ids.to_pylist()
            bounds = block.offsets.tolist()
            letters += [block.letters[start:stop] for start, stop in pairwise(bounds)]
    for label, one in zip(labelled.label(file, ids), letters, strict=True):
        yield _Record(label, one)


def _with_validation(records: Sequence[_Record], seed: int) -> list[_Record]:
    """The records, each of the split train or validation."""
    given = any(record.label.split == "validation" for record in records)
    held = set() if given else _held_out(records, seed)

    def completed(label: LabelledRecord) -> LabelledRecord:
        held_out = label.split == "validation" or (label.group, label.genome) in held
        return replace(label, split="validation" if held_out else "train")

    return [_Record(completed(record.label), record.letters) for record in records]


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


def _joined(manifest: Path, records: Sequence[_Record], mask: pl.DataFrame) -> Corpus:
    intervals = {
        str(name): of.select("start", "end").to_numpy() for (name,), of in mask.group_by("id")
    }
    none = np.empty((0, 2), np.int64)
    letters: list[np.ndarray] = []
    labels: list[LabelledRecord] = []
    masked: list[bool] = []
    for record in records:
        hidden = intervals.get(record.label.record_id, none)
        for start, stop in stretches(record.letters, hidden.reshape(-1), SHORTEST):
            letters.append(record.letters[start:stop])
            labels.append(record.label)
            masked.append(bool(((hidden[:, 0] <= start) & (stop <= hidden[:, 1])).any()))
    check_classes(manifest, labels, ("train", "validation"))
    return Corpus(
        letters=np.concatenate(letters),
        offsets=np.cumsum([0, *map(len, letters)]),
        is_virus=np.array([label.is_virus for label in labels]),
        masked=np.array(masked),
        group=np.array([label.group for label in labels]),
        genome=np.array([label.genome for label in labels]),
        split=np.array([label.split for label in labels]),
    )
