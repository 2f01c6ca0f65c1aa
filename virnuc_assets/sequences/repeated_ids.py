"""Whether two of however many records have one id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.blocks import read_blocks
from virnuc_assets.sequences.compiled import compiled
from virnuc_assets.sequences.input_file import open_input
from virnuc_assets.sequences.ragged import flat
from virnuc_assets.sequences.records import Kind, parse_records

_AT_A_TIME = 1 << 24
_BLOCK_BYTES = 1 << 23
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


class IdHashes:
    """64-bit FNV-1a hashes (Fowler, Noll and Vo 1991) of the ids of a file, kept on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, hashes: np.ndarray) -> None:
        """Note the hashes of some of the ids."""
        with self._path.open("ab") as file:
            file.write(hashes.data)

    def repeated(self) -> np.ndarray:
        """The hashes that two ids have, uint64; they may still differ."""
        count = self._path.stat().st_size // 8
        shares = -(-count // _AT_A_TIME)
        found = [np.empty(0, np.uint64)]
        for share in range(shares):
            hashes = np.concatenate([some[some % shares == share] for some in self._read(count)])
            hashes.sort()
            found.append(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
        return np.concatenate(found)

    def _read(self, count: int) -> Iterator[np.ndarray]:
        for first in range(0, count, _AT_A_TIME):
            yield np.fromfile(self._path, np.uint64, _AT_A_TIME, offset=8 * first)


def hash_ids(ids: pa.LargeStringArray) -> np.ndarray:
    """Hashes of n ids; uint64, shape (n,)."""
    letters, offsets = flat(ids)
    hashes = np.empty(len(ids), np.uint64)
    _hash(letters, offsets, hashes)
    return hashes


def check_ids(path: Path, kind: Kind, hashes: IdHashes) -> None:
    """Refuse `path` if an id is given to two of its records; `hashes` are those of all its ids.

    Where two hashes agree the file is read again for the ids themselves.

    Raises:
        InputError: the first id that an earlier record has.
    """
    suspects = hashes.repeated()
    if not suspects.size:
        return
    seen: set[str] = set()
    with open_input(path) as source:
        for block in read_blocks(source, _BLOCK_BYTES):
            ids = parse_records(path, kind, block).ids
            for name in ids.filter(pa.array(np.isin(hash_ids(ids), suspects))).to_pylist():
                if name in seen:
                    raise InputError(
                        f"{path}: the id {name!r} belongs to more than one record; give every "
                        "record an id of its own (seqkit rename)"
                    )
                seen.add(name)


@compiled
def _hash(letters: np.ndarray, offsets: np.ndarray, hashes: np.ndarray) -> None:
    for i in range(hashes.size):
        value = np.uint64(_FNV_OFFSET)
        for letter in letters[offsets[i] : offsets[i + 1]]:
            value = (value ^ np.uint64(letter)) * np.uint64(_FNV_PRIME)
        hashes[i] = value
