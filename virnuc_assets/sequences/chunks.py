"""Chunking: each record cut into overlapping chunks of one length, as VirNucPro does it.

A record of n letters gives k = ceil(n / c) chunks of length c. The surplus r = k·c − n is spread
as overlaps: with lo = r // k, the first r − lo·(k − 1) chunks overlap the next by lo + 1 letters
and the rest by lo. A record that fits one chunk is one chunk, the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.ragged import within_run

MIN_CHUNK_LENGTH = 3
_MAX_CHUNK_LENGTH = 1_000_000
_WINDOW = 1 << 20  # letters; what is found of them stays in cache
_WINDOW_CHUNKS = 1 << 16


@dataclass(frozen=True)
class Chunks:
    """Chunks in input order; every array is int64 of shape (number of chunks,).

    `record` is the position of the chunk's record among the records given, `number` counts from
    1 within it, and `[start, stop)` is the chunk's span within the records laid end to end.
    """

    record: np.ndarray
    number: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def check_chunk_length(chunk_length: int) -> None:
    """Refuse a chunk length that holds no codon.

    Raises:
        InputError: `chunk_length` is not an integer from 3 to 1 000 000.
    """
    if type(chunk_length) is not int or not MIN_CHUNK_LENGTH <= chunk_length <= _MAX_CHUNK_LENGTH:
        raise InputError(
            f"chunk length {chunk_length!r}: must be a whole number of at least "
            f"{MIN_CHUNK_LENGTH} and at most {_MAX_CHUNK_LENGTH}; trained heads exist for 300 and "
            "500"
        )


def chunk_records(offsets: np.ndarray, chunk_length: int) -> Chunks:
    """Cut records laid end to end, at `offsets` (int64, (n + 1,)), into chunks."""
    lengths = np.diff(offsets)
    counts = -(-lengths // chunk_length)
    surplus = counts * chunk_length - lengths
    overlap = surplus // np.maximum(counts, 1)
    wider = surplus - overlap * (counts - 1)

    record = np.repeat(np.arange(lengths.size), counts)
    index = within_run(counts)
    start = index * (chunk_length - overlap[record]) - np.minimum(index, wider[record])
    stop = np.minimum(start + chunk_length, lengths[record])
    base = offsets[:-1][record]
    return Chunks(record, index + 1, base + start, base + stop)


def windows(chunks: Chunks) -> Iterator[slice]:
    """Slices of `chunks`, in order: as many as share so many letters, and no more than a number.

    They bound the memory of whatever is computed for a window.
    """
    window = chunks.start // _WINDOW
    edges = np.flatnonzero(np.diff(window)) + 1
    bounds = [0, *edges.tolist(), chunks.start.size]
    for first, last in pairwise(bounds):
        for begin in range(first, last, _WINDOW_CHUNKS):
            yield slice(begin, min(begin + _WINDOW_CHUNKS, last))
