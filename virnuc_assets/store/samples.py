"""Which samples there are and which file each was made from."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.layout import Layout

SEQUENCE_SUFFIXES = (".fa", ".fasta", ".fna", ".fq", ".fastq")
_COMPRESSIONS = ("", ".gz", ".bgz", ".zst")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Sample:
    """A registered sample."""

    name: str
    source: str
    """Absolute path of its FASTA or FASTQ file."""


def is_sequence_file(path: Path) -> bool:
    """Whether a file's name is one a sample is made from."""
    return not path.name.startswith(".") and _stem(path) is not None


def sample_name(path: Path) -> str:
    """A file's sample name: without its suffixes, any other character than a letter, digit, `.`,
    `_` or `-` replaced by `_`."""
    stem = _stem(path)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name if stem is None else stem)
    # Dagster reads "a...b" as a range of partitions.
    return re.sub(r"\.{2,}", ".", name).strip(".") or "sample"


def _stem(path: Path) -> str | None:
    """A file's name without its suffixes; None if they are not a sequence file's."""
    for suffix in SEQUENCE_SUFFIXES:
        for compression in _COMPRESSIONS:
            if path.name.lower().endswith(suffix + compression):
                return path.name[: -len(suffix + compression)]
    return None


def check_name(name: str) -> str:
    """Return `name` if it can name a sample.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name) or "..." in name or name in (".", ".."):
        raise InputError(
            f"{name!r} cannot name a sample; use letters, digits, '.', '_' and '-', and no '...'"
        )
    return name


def register(layout: Layout, name: str, source: Path) -> Sample:
    """Write down that sample `name` is made from `source` (again, if it was known).

    Raises:
        InputError: the name is unusable or another file's, or there is no such file.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file; give the path of a FASTA file")
    sample = Sample(check_name(name), str(source.resolve()))
    known = layout.sample(name)
    if known.exists():
        earlier = Sample(**read_json(known))
        if earlier.source != sample.source and Path(earlier.source).exists():
            raise InputError(
                f"{source}: would be sample {name}, which is made from {earlier.source}; rename "
                "the file or give the sample another name"
            )
    write_json(layout.sample(name), asdict(sample))
    return sample


def registered(layout: Layout, name: str) -> Sample:
    """The sample called `name`.

    Raises:
        InputError: there is none.
    """
    path = layout.sample(check_name(name))
    if not path.exists():
        raise InputError(
            f"{name!r} is not a known sample; add it with `virnuc samples add FASTA --name {name}` "
            f"or drop its FASTA file into {layout.inbox}"
        )
    return Sample(**read_json(path))


def all_samples(layout: Layout) -> list[Sample]:
    """Every registered sample, by name."""
    return [Sample(**read_json(path)) for path in sorted(layout.samples.glob("*/sample.json"))]
