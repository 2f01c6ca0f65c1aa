"""Which records are viral: a manifest of FASTA files, or files named outright.

A manifest is a table of tab-separated columns with a header line, plain or gzip. `file` and `class`
are needed; `group`, `split`, `virus_cluster`, `family`, `genus` and `genome` may be there; other
columns are passed over. A second table with `record_id` and `file` says the same of single records,
and where it says something, that holds. An empty cell says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from virnuc_assets.errors import InputError
from virnuc_assets.evaluation.tables import read_tsv

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CLASSES = {"virus": True, "other": False}

# What keeps fragments together, the widest first: relatives must not be on both sides of a split.
_GENOME_COLUMNS = ("virus_cluster", "family", "genus", "genome")
_OPTIONAL = ("group", "split", *_GENOME_COLUMNS)
_FIRST_LINE = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledRecord:
    """A record and what is known of it.

    `genome` is what a split never divides, and what is weighed alike within a group: the virus
    cluster where one is given, else the family, genus or genome, else the record itself. `split` is
    None where none is given (see `splits.complete_splits`).
    """

    record_id: str
    file: Path
    is_virus: bool
    group: str
    genome: str
    split: Split | None


@dataclass(frozen=True, slots=True)
class Label:
    """What a line of a table says of a file or a record; None where it says nothing."""

    is_virus: bool | None
    group: str | None
    genome: str | None
    split: Split | None

    def over(self, other: Label) -> Label:
        """This label, with what it leaves open taken from `other`."""
        return Label(
            other.is_virus if self.is_virus is None else self.is_virus,
            self.group or other.group,
            self.genome or other.genome,
            self.split or other.split,
        )


@dataclass(frozen=True)
class LabelledFiles:
    """Labelled FASTA files, in the manifest's order.

    `records` holds the labels of single records by file, and is None where there is no such table.
    `tables` are the files that this was read from.
    """

    files: Mapping[Path, Label]
    records: Mapping[Path, Mapping[str, Label]] | None
    tables: tuple[Path, ...]

    def label(self, file: Path, record_ids: Iterable[str]) -> list[LabelledRecord]:
        """The labelled records of one of the files, given its record ids in the file's order.

        Raises:
            InputError: the table of records does not name one of them, or names one that the file
                does not have.
        """
        by_file = self.files[file]
        by_record = None if self.records is None else self.records.get(file, {})
        labelled: list[LabelledRecord] = []
        for record_id in record_ids:
            label = by_file
            if by_record is not None:
                if record_id not in by_record:
                    raise InputError(
                        f"{self.tables[-1]}: has no line for record {record_id} of {file}; add "
                        "one, or leave the file out of the manifest"
                    )
                label = by_record[record_id].over(by_file)
            labelled.append(
                LabelledRecord(
                    record_id,
                    file,
                    bool(label.is_virus),
                    label.group or ("virus" if label.is_virus else "other"),
                    label.genome or record_id,
                    label.split,
                )
            )
        if by_record is not None and len(by_record) > len(labelled):
            missing = min(set(by_record) - {record.record_id for record in labelled})
            raise InputError(
                f"{self.tables[-1]}: names record {missing}, which {file} does not have; correct "
                "the line or remove it"
            )
        return labelled


def labelled_files(
    manifest: Path | None, records: Path | None, virus: Sequence[Path], other: Sequence[Path]
) -> LabelledFiles:
    """Labelled files as they are given on a command line: by a manifest, or outright.

    Raises:
        InputError: both are given or neither is, or what is given cannot be used.
    """
    if manifest is not None:
        if virus or other:
            raise InputError(
                f"{manifest}: is given beside --virus or --other; list all files in the manifest, "
                "or give none"
            )
        return read_labelled(manifest, records)
    if records is not None:
        raise InputError(f"{records}: belongs to a manifest; give it too, as --manifest")
    return labelled_fasta(virus, other)


def labelled_fasta(virus: Sequence[Path], other: Sequence[Path]) -> LabelledFiles:
    """Files of viruses and files of others, each record a genome of its own.

    Raises:
        InputError: one class has no file, a file does not exist or is given twice.
    """
    for paths, name in ((virus, "virus"), (other, "other")):
        if not paths:
            raise InputError(
                f"--{name}: no file is given, and a classifier needs both classes; give "
                f"--{name} FASTA, or a --manifest"
            )
    files: dict[Path, Label] = {}
    for path in (*virus, *other):
        file = path.absolute()
        if not file.is_file():
            raise InputError(f"{path}: no such file; check the path")
        if file in files:
            raise InputError(f"{path}: is given twice; give it once, as one class")
        files[file] = Label(path in virus, None, None, None)
    return LabelledFiles(files, None, ())


def read_labelled(manifest: Path, records: Path | None = None) -> LabelledFiles:
    """Read a manifest and, where there is one, the table of its records.

    Paths in `file` are relative to the manifest, or absolute.

    Raises:
        InputError: a table cannot be read, lacks a column, or has a line that cannot be used.
    """
    table = read_tsv(manifest, ("file", "class"), _OPTIONAL)
    files: dict[Path, Label] = {}
    for number, line in enumerate(table.iter_rows(named=True), start=_FIRST_LINE):
        where = f"{manifest}: line {number}"
        path = (manifest.parent / line["file"]).absolute()
        if path in files:
            raise InputError(f"{where} names {line['file']} again; keep one of the lines")
        if not path.is_file():
            raise InputError(
                f"{where}: there is no file {path}; correct the path, which is relative to the "
                "manifest's folder"
            )
        files[path] = _label(line, where)
    if records is None:
        if not set(_GENOME_COLUMNS) & set(table.columns):
            _log.warning(
                "%s: has none of the columns %s, so each record counts as a genome of its own; "
                "where genomes have several records, parts of one may be on both sides of a split",
                manifest,
                ", ".join(_GENOME_COLUMNS),
            )
        _check_both_classes(manifest, files.values())
        return LabelledFiles(files, None, (manifest,))
    by_file = _read_records(records, manifest.parent, files)
    _check_both_classes(
        records, (label.over(files[path]) for path, of in by_file.items() for label in of.values())
    )
    return LabelledFiles(files, by_file, (manifest, records))


def _read_records(
    records: Path, folder: Path, files: Mapping[Path, Label]
) -> dict[Path, dict[str, Label]]:
    by_file: dict[Path, dict[str, Label]] = {}
    table = read_tsv(records, ("record_id", "file"), ("class", *_OPTIONAL))
    paths = {name: (folder / name).absolute() for name in table["file"].unique()}
    for number, line in enumerate(table.iter_rows(named=True), start=_FIRST_LINE):
        path, record_id = paths[line["file"]], line["record_id"]
        if path not in files:
            continue  # a manifest may name some of a data set's files only
        where = f"{records}: line {number}"
        of_file = by_file.setdefault(path, {})
        if record_id in of_file:
            raise InputError(
                f"{where} names record {record_id} of {line['file']} again; keep one of the lines"
            )
        of_file[record_id] = _label(line, where)
    return by_file


def _label(line: Mapping[str, str | None], where: str) -> Label:
    name, split = line.get("class"), line.get("split")
    if name and name not in CLASSES:
        raise InputError(f"{where} has the class {name!r}; write virus or other")
    if split and split not in SPLITS:
        raise InputError(
            f"{where} has the split {split!r}; write train, validation or test, or leave it empty"
        )
    genome = next((line[column] for column in _GENOME_COLUMNS if line.get(column)), None)
    return Label(CLASSES[name] if name else None, line.get("group"), genome, split or None)


def _check_both_classes(table: Path, labels: Iterable[Label]) -> None:
    found = {label.is_virus for label in labels}
    for name, is_virus in CLASSES.items():
        if is_virus not in found:
            raise InputError(
                f"{table}: labels nothing as {name}, and a classifier needs both classes; add "
                f"files of class {name}"
            )
