"""The mean over each item of a pack."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from virnuc_assets.encoders.attention import to_device


def boundaries(cu_seqlens: np.ndarray, items: int, margin: int) -> np.ndarray:
    """Start and end of what is pooled in each of the first `items` segments, shape (2·items,).

    `margin` tokens are left out at either end of a segment (1: BOS and EOS; 0: nothing).
    """
    starts, ends = cu_seqlens[:items] + margin, cu_seqlens[1 : items + 1] - margin
    return np.stack([starts, ends], axis=1).reshape(-1)


def segment_means(hidden: Tensor, bounds: np.ndarray) -> Tensor:
    """Mean of `hidden` (T, d) over each range of `bounds` (2·n,), in float32, shape (n, d).

    Sums run in order within a range and see nothing else, on the CPU and on CUDA, so that a mean
    is the same bit for bit whatever lies beside it.
    """
    offsets = to_device(bounds.astype(np.int64), hidden.device)
    # Every second range is a gap between two items; unsafe skips checks that would wait for CUDA.
    means = torch.segment_reduce(hidden.float(), "mean", offsets=offsets, axis=0, unsafe=True)
    return means[::2]


def join_windows(values: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Means of sequences from means of their windows, weighted by the windows' lengths.

    `values` (m, d) float32; `rows` (m,), never decreasing and without gaps; `lengths` (m,). A
    sequence of one window keeps its mean untouched. Returns (n, d), float32.
    """
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    if len(firsts) == len(rows):
        return values
    joined = values[firsts]
    counts = np.diff(firsts, append=len(rows))
    many = counts > 1
    windows = np.repeat(many, counts)
    weights = lengths[windows].astype(np.float64)[:, None]
    bounds = np.cumsum(counts[many]) - counts[many]
    sums = np.add.reduceat(values[windows] * weights, bounds, axis=0)
    joined[many] = sums / np.add.reduceat(weights, bounds, axis=0)
    return joined
