"""Training, validation and test parts that never share a genome."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from virnuc_assets.errors import InputError
from virnuc_assets.training.labelled import LabelledRecord, Split

SHARE = 0.15
"""The part of each group's genomes that is drawn for validation, and for test."""


def complete_splits(
    records: Sequence[LabelledRecord], seed: int, drawn: Sequence[Split] = ("test", "validation")
) -> list[LabelledRecord]:
    """Records with a split each: the one given, or train, or drawn from train.

    A part named in `drawn` that no record is given is drawn: of each class and group, `SHARE` of
    the genomes in train, at least one, and none where a part would leave no genome to train on.
    What is drawn depends on the seed and the genomes' names, not on the records' order.

    Raises:
        InputError: a genome is given two splits, or a part lacks one of the classes.
    """
    of_genome = _given(records)
    parts = [part for part in drawn if part not in of_genome.values()]
    strata: dict[tuple[bool, str], list[str]] = {}
    for genome, stratum in _strata(records).items():
        if of_genome[genome] == "train":
            strata.setdefault(stratum, []).append(genome)
    for (is_virus, group), genomes in strata.items():
        count = max(1, round(SHARE * len(genomes)))
        if len(genomes) <= len(parts) * count:
            continue
        shuffled = sorted(genomes, key=lambda genome: _draw(seed, is_virus, group, genome))
        for number, part in enumerate(parts):
            for genome in shuffled[number * count : (number + 1) * count]:
                of_genome[genome] = part
    completed = [replace(record, split=of_genome[record.genome]) for record in records]
    check_classes(records[0].file, completed, ("train", *drawn))
    return completed


def _given(records: Iterable[LabelledRecord]) -> dict[str, Split]:
    """The split of every genome; train where none is given."""
    given: dict[str, LabelledRecord] = {}
    for record in records:
        first = given.setdefault(record.genome, record)
        if first.split != record.split:
            raise InputError(
                f"{record.file}: record {record.record_id} is given the split "
                f"{record.split or 'train'!r} and {first.record_id} of the same genome "
                f"({record.genome}) {first.split or 'train'!r}; give a genome one split"
            )
    return {genome: record.split or "train" for genome, record in given.items()}


def _strata(records: Iterable[LabelledRecord]) -> dict[str, tuple[bool, str]]:
    """Class and group of every genome; of one with several, such as plasmids, the first by name."""
    strata: dict[str, tuple[bool, str]] = {}
    for record in records:
        stratum = (record.is_virus, record.group)
        strata[record.genome] = min(strata.get(record.genome, stratum), stratum)
    return strata


def _draw(seed: int, is_virus: bool, group: str, genome: str) -> bytes:
    return hashlib.sha256(f"{seed}\t{is_virus}\t{group}\t{genome}".encode()).digest()


def check_classes(where: Path, records: Iterable[LabelledRecord], parts: Iterable[Split]) -> None:
    """Refuse parts without one of the classes; `where` is the file that is named.

    Raises:
        InputError: a part lacks a class.
    """
    found = {(record.split, record.is_virus) for record in records}
    for part in parts:
        for is_virus, name in ((True, "virus"), (False, "other")):
            if (part, is_virus) not in found:
                raise InputError(
                    f"{where}: with the other files given, the {part} part has no "
                    f"{name}; give more genomes of that class (three in a group are enough), or "
                    f"the split {part} to some of them"
                )
