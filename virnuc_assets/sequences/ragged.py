"""Many runs of different lengths in one flat array, without a Python object for each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each run starts when runs of `lengths` (n,) lie end to end; int64, shape (n + 1,)."""
    offsets = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def within_run(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … within each run of `lengths` (n,), end to end; int64, shape (sum of lengths,)."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def run_positions(
    starts: np.ndarray, lengths: np.ndarray, steps: np.ndarray | None = None
) -> np.ndarray:
    """Positions `start + step·(0 … length − 1)` of every run, end to end; int64.

    `starts`, `lengths` and `steps` (+1 or −1; all +1 when None) are int64 of shape (n,).
    """
    if steps is None:
        shift = starts - offsets_of(lengths)[:-1]
        return np.repeat(shift, lengths) + np.arange(int(lengths.sum()))
    return np.repeat(starts, lengths) + np.repeat(steps, lengths) * within_run(lengths)


def string_array(letters: np.ndarray, lengths: np.ndarray) -> pa.LargeStringArray:
    """Arrow strings of `lengths` (n,) that share the ASCII buffer `letters` (uint8)."""
    buffers = [None, pa.py_buffer(offsets_of(lengths)), pa.py_buffer(letters)]
    return pa.LargeStringArray.from_buffers(lengths.size, buffers[1], buffers[2])
