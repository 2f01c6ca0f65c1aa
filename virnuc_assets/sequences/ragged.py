"""Many runs of different lengths in one flat array, without a Python object for each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

# What Arrow frees serves numpy, and the reverse, only where both take their memory from one place.
pa.set_memory_pool(pa.system_memory_pool())


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each run starts when runs of `lengths` (n,) lie end to end; int64, shape (n + 1,)."""
    offsets = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def within_run(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … within each run of `lengths` (n,), end to end; int64, shape (sum of lengths,)."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def string_array(letters: np.ndarray, offsets: np.ndarray) -> pa.LargeStringArray:
    """Arrow strings `letters[offsets[i] : offsets[i + 1]]` that share the ASCII buffer (uint8)."""
    return pa.LargeStringArray.from_buffers(
        offsets.size - 1, pa.py_buffer(offsets), pa.py_buffer(letters)
    )


def flat(strings: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The letters (uint8) and offsets (int64, (n + 1,)) that `strings` are made of."""
    if not len(strings):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, letters = strings.buffers()
    bounds = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return np.frombuffer(letters, np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]
