"""Which samples there are and which file each was made from."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from virnuc_assets.errors import InputError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.layout import Layout

FASTA_SUFFIXES = (".fa", ".fasta", ".fna")
_COMPRESSIONS = ("", ".gz")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Sample:
    """A registered sample."""

    name: str
    source: str
    """Absolute path of its FASTA file."""


def is_fasta_name(path: Path) -> bool:
    """Whether a file's name is one a sample is made from."""
    name = path.name.lower()
    return not name.startswith(".") and any(
        name.endswith(suffix + compression)
        for suffix in FASTA_SUFFIXES
        for compression in _COMPRESSIONS
    )


def sample_name(path: Path) -> str:
    """A file's sample name: without its FASTA suffix, any other character than a letter, digit,
    `.`, `_` or `-` replaced by `_`."""
    stem = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    for suffix in FASTA_SUFFIXES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)
    # Dagster reads "a...b" as a range of partitions.
    return re.sub(r"\.{2,}", ".", name).strip(".") or "sample"


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
