"""Labelled files put together into few FASTA files, one sample each.

A run of the embedding engine takes seconds to start; hundreds of small files, each a sample of its
own, would spend an hour on that. The same files give the same pools, so that what an earlier call
embedded is found again; files added at a manifest's end touch the last pool only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from virnuc_assets.sequences.input_file import InputFile, open_input
from virnuc_assets.sequences.parallel import usable_cores
from virnuc_assets.sequences.records import Records
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.training.labelled import LabelledFiles, LabelledRecord

POOL_BYTES = 1 << 26
"""Text at which a pool is full; a file is never divided."""


@dataclass(frozen=True)
class Pool:
    """One FASTA file of several labelled files.

    Its records are called 0, 1, …: `records` says which they are, in order. `files` are the
    labelled files as they were when read.
    """

    fasta: Path
    records: tuple[LabelledRecord, ...]
    files: tuple[InputFile, ...]


def pool_files(labelled: LabelledFiles, folder: Path, tell: Callable[[str], None]) -> list[Pool]:
    """Write the pools of `labelled` as `pool-000.fa` … in `folder`, and `tell` of each.

    Memory holds the records' ids and labels, and a few blocks of 8 MB of text.

    Raises:
        InputError: a file cannot be used, or does not go with the table of records.
        StoreError: `folder` cannot be written.
    """
    pools: list[Pool] = []
    paths = iter(labelled.files)
    path = next(paths, None)
    while path is not None:
        fasta = folder / f"pool-{len(pools):03d}.fa"
        records: list[LabelledRecord] = []
        files: list[InputFile] = []
        with atomic_path(fasta) as temporary, temporary.open("wb") as out:
            while path is not None and out.tell() < POOL_BYTES:
                ids: list[str] = []
                for text, names in _renamed(path, len(records), files):
                    out.write(text)
                    ids += names
                records += labelled.label(path, ids)
                path = next(paths, None)
        tell(f"{fasta.name}: {len(records)} records of {len(files)} files")
        pools.append(Pool(fasta, tuple(records), tuple(files)))
    return pools


def _renamed(path: Path, first: int, files: list[InputFile]) -> Iterator[tuple[bytes, list[str]]]:
    """FASTA text of a file's records, called `first`, `first + 1` …, and the ids they had.

    The file is appended to `files` once it has been read.
    """
    from virnuc_assets.sequences.scan import scan  # compiles, or loads machine code

    with open_input(path) as source, TemporaryDirectory() as scratch:
        blocks = scan(source, "nucleotide", _parts, Path(scratch), threads=usable_cores())
        for names, sequences in blocks:
            numbered = enumerate(sequences, start=first)
            yield b"".join(b">%d\n%s\n" % record for record in numbered), names
            first += len(names)
        files.append(source.identity())


def _parts(records: Records) -> tuple[list[str], list[bytes]]:
    letters = records.letters.tobytes()
    bounds = records.offsets.tolist()
    return records.ids.to_pylist(), [letters[start:stop] for start, stop in pairwise(bounds)]
