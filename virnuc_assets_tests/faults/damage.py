"""Ways in which a block file that was finished is found spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import h5py
import numpy as np

from virnuc_assets.store.embeddings import Counts, read_attributes, write_embeddings

Damage = Callable[[Path, Sequence[Path], Random], None]
"""Spoils the first file; the others are finished blocks too."""


def torn(path: Path, others: Sequence[Path], random: Random) -> None:
    """The first part is there, the rest is zeros: pages that never reached the disk."""
    content = path.read_bytes()
    kept = random.randrange(len(content))
    path.write_bytes(content[:kept].ljust(len(content), b"\0"))


def truncated(path: Path, others: Sequence[Path], random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(1, len(content))])


def emptied(path: Path, others: Sequence[Path], random: Random) -> None:
    path.write_bytes(b"")


def flipped(path: Path, others: Sequence[Path], random: Random) -> None:
    """One bit, anywhere in the file."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(bytes(content))


def of_something_else(path: Path, others: Sequence[Path], random: Random) -> None:
    """A whole file with a right checksum, of another index, other weights or other precision."""
    name = random.choice(["index_digest", "encoder_digest", "dtype"])
    read = read_attributes(path)
    with h5py.File(path) as file:
        values = file["embeddings"][:]
    foreign = replace(read.identity, **{name: "another"})
    write_embeddings(path, foreign, read.origin, Counts(), read.dim, [np.flip(values, 0)])


def of_another_place(path: Path, others: Sequence[Path], random: Random) -> None:
    """Another block of the same job under this block's name."""
    shutil.copyfile(random.choice(others), path)


DAMAGES: dict[str, Damage] = {
    "torn": torn,
    "truncated": truncated,
    "emptied": emptied,
    "bit flipped": flipped,
    "of something else": of_something_else,
    "of another place": of_another_place,
}
