"""Which samples there are and which file each was made from."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from virnuc_assets.errors import InputError, StoreError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.layout import Layout

log = logging.getLogger(__name__)

SEQUENCE_SUFFIXES = (".fa", ".fasta", ".fna", ".fq", ".fastq")
_COMPRESSIONS = ("", ".gz", ".bgz", ".zst")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LONGEST = 200


@dataclass(frozen=True)
class Sample:
    """A registered sample: its file, and what it does not share with the deployment."""

    name: str
    source: str
    """Absolute path of its FASTA or FASTQ file."""
    chunk_length: int | None = None
    """Bases in a chunk; None: the deployment's."""
    head: str | None = None
    """The head that calls it, by name or folder; None: the deployment's."""


def is_sequence_file(path: Path) -> bool:
    """Whether a file's name is one a sample is made from."""
    return not path.name.startswith(".") and _stem(path) is not None


def is_file(path: Path) -> bool:
    """Whether there is a file that can be looked at; a name that none can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


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
    if not _NAME.fullmatch(name) or "..." in name or name in (".", "..") or len(name) > _LONGEST:
        raise InputError(
            f"{name[:_LONGEST]!r} cannot name a sample; use letters, digits, '.', '_' and '-', "
            f"{_LONGEST} at most, and no '...'"
        )
    return name


def register(
    layout: Layout,
    name: str,
    source: Path,
    chunk_length: int | None = None,
    head: str | None = None,
) -> Sample:
    """Write down that sample `name` is made from `source`, and how (again, if it was known).

    Raises:
        InputError: the name is unusable or another file's, or there is no such file.
    """
    earlier = earlier_registration(layout, name, source)
    sample = Sample(name, str(source.resolve()), chunk_length, head)
    if sample != earlier:
        write_json(layout.sample(name), asdict(sample))
    return sample


def earlier_registration(layout: Layout, name: str, source: Path) -> Sample | None:
    """The sample `name` as it was registered from the same file, if it was.

    Raises:
        InputError: the name is unusable or another file's, or there is no such file.
    """
    if not is_file(source):
        raise InputError(f"{source}: no such file; give the path of a FASTA file")
    known = layout.sample(check_name(name))
    if not known.exists():
        return None
    earlier = _read(known)
    if earlier.source == str(source.resolve()):
        return earlier
    if is_file(Path(earlier.source)):
        raise InputError(
            f"{source}: would be sample {name}, which is made from {earlier.source}; rename "
            "the file or give the sample another name"
        )
    return None


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
    return _read(path)


def all_samples(layout: Layout) -> list[Sample]:
    """Every registered sample, by name; one that cannot be read is left out, with a warning."""
    found = []
    for path in sorted(layout.samples.glob("*/sample.json")):
        try:
            found.append(_read(path))
        except StoreError as error:
            if path.exists():
                log.warning("%s", error)
    return found


def _read(path: Path) -> Sample:
    try:
        return Sample(**read_json(path))
    except TypeError as error:
        raise StoreError(f"{path}: is no sample's ({error}); add the sample again") from error
