"""Which files of a sample no current result needs: a pure function over what was found.

Current is what the settings' encoders, precision and number of shards make of the index that is
there, and what the results that are there were made from. Results, reports and inputs are never
garbage, and neither is a file that was not understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from virnuc_assets.encoders.catalog import EncoderName


@dataclass(frozen=True)
class Made:
    """What embeddings were made from and with. Embeddings that differ in one are others."""

    index_digest: str
    encoder_digest: str
    dtype: str


@dataclass(frozen=True)
class Found:
    """A file or folder; `age`: seconds since it, or the youngest file in it, was written."""

    path: Path
    bytes: int
    age: float


@dataclass(frozen=True)
class Embedded:
    """A shard's file, or a block's."""

    file: Found
    made: Made
    shard: int
    n_shards: int


@dataclass(frozen=True)
class EncoderFolder:
    """A sample's embeddings by one encoder, as far as they could be read."""

    shards: Sequence[Embedded] = ()
    blocks: Sequence[Embedded] = ()
    pieces: Sequence[Found] = ()
    """Of blocks that a run had cut in halves."""
    view: Found | None = None
    shown: Sequence[str] = ()
    """Names of the files that the view shows."""


@dataclass(frozen=True)
class Wanted:
    """What the settings make with one encoder."""

    encoder_digest: str
    dtypes: Sequence[str]
    """Each that they may mean: `auto` is another on a GPU than on a CPU."""
    n_shards: int


@dataclass(frozen=True)
class SampleFiles:
    """A sample's files that may be garbage."""

    registered: bool
    index_digest: str | None = None
    """Of the index that is there; None: there is none that can be read."""
    encoders: Mapping[EncoderName, EncoderFolder] = field(default_factory=dict)
    used: Mapping[EncoderName, Made] = field(default_factory=dict)
    """Encoder → the embeddings that the results there were made from."""
    temporaries: Sequence[Found] = ()
    """Of processes that are no more."""
    made_of_it: Sequence[Found] = ()
    """Its index and its folder of embeddings, as wholes."""


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that can go, and why."""

    path: Path
    bytes: int
    why: str


def unneeded(
    files: SampleFiles, wanted: Mapping[EncoderName, Wanted], least_age: float
) -> list[Unneeded]:
    """What of a sample no current result needs, written `least_age` seconds ago or earlier.

    `wanted`: encoder → what the settings make.
    """
    found = [(file, "left by a process that was ended") for file in files.temporaries]
    if not files.registered:
        found += [(folder, "its sample is no longer registered") for folder in files.made_of_it]
    elif files.index_digest is not None:
        for encoder, folder in files.encoders.items():
            used = files.used.get(encoder)
            found += _of_encoder(folder, files.index_digest, wanted[encoder], used, least_age)
    return [Unneeded(file.path, file.bytes, why) for file, why in found if file.age >= least_age]


def _of_encoder(
    folder: EncoderFolder, index_digest: str, wanted: Wanted, used: Made | None, least_age: float
) -> list[tuple[Found, str]]:
    if used is not None and used.index_digest != index_digest:
        used = None  # the index that those results were made from is gone
    results_need = _numbers_of_whole_sets(folder.shards, used, wanted.n_shards)
    others: list[tuple[Found, str]] = []
    finished = set()
    for shard in folder.shards:
        why = _why_other(shard, index_digest, wanted)
        if why is None:
            finished.add(shard.shard)
        elif not (shard.made == used and shard.n_shards in results_need):
            others.append((shard.file, why))
    found: list[tuple[Found, str]] = []
    going = {file.path.name for file, _ in others if file.age >= least_age}
    if folder.view is not None and going.intersection(folder.shown):
        # Before its shards, because what is missing reads as NaN; and however young it is.
        found.append((replace(folder.view, age=least_age), "shows shards that go"))
    found += others
    for block in folder.blocks:
        why = _why_other(block, index_digest, wanted)
        if why is None and block.shard in finished:
            why = "its shard is finished"
        if why is not None:
            found.append((block.file, why))
    return found + [(piece, "part of a block of a run that was ended") for piece in folder.pieces]


def _numbers_of_whole_sets(
    shards: Sequence[Embedded], used: Made | None, preferred: int
) -> set[int]:
    """Numbers of shards in which the embeddings `used` are there as a whole."""
    numbers: dict[int, set[int]] = {}
    for shard in shards:
        if shard.made == used:
            numbers.setdefault(shard.n_shards, set()).add(shard.shard)
    whole = {n for n, there in numbers.items() if there == set(range(n))}
    return {preferred} if preferred in whole else whole


def _why_other(embedded: Embedded, index_digest: str, wanted: Wanted) -> str | None:
    """Why a run by the settings would not use these embeddings; None: it would."""
    made = embedded.made
    if made.index_digest != index_digest:
        return "made from an earlier index"
    if made.encoder_digest != wanted.encoder_digest:
        return "made with other weights than those set"
    if made.dtype not in wanted.dtypes:
        return f"made in {made.dtype}, and {' or '.join(wanted.dtypes)} is set"
    if embedded.n_shards != wanted.n_shards:
        return f"one of {embedded.n_shards} shards, and {wanted.n_shards} are set"
    return None
