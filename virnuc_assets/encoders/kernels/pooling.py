"""Means of token ranges in one reading of half-precision values."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from virnuc_assets.encoders.attention import to_device


@triton.jit
def _range_means(x_ptr, bounds_ptr, y_ptr, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    item = tl.program_id(0)
    start = tl.load(bounds_ptr + 2 * item)
    end = tl.load(bounds_ptr + 2 * item + 1)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (column < width)[None, :]
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(start, end, ROWS):
        row = first + tl.arange(0, ROWS)
        at = row[:, None].to(tl.int64) * width + column[None, :]
        total += tl.load(x_ptr + at, mask=(row < end)[:, None] & inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / (end - start)
    tl.store(y_ptr + item.to(tl.int64) * width + column, mean, mask=column < width)


def segment_means(hidden: Tensor, bounds: np.ndarray) -> Tensor:
    """`encoders.pooling.segment_means` of contiguous `hidden` (T, d), float32, shape (n, d).

    The order of a range's sums depends on its length alone.
    """
    items, width = len(bounds) // 2, hidden.shape[1]
    y = torch.empty(items, width, device=hidden.device, dtype=torch.float32)
    block = 256
    _range_means[(items, triton.cdiv(width, block))](
        hidden,
        to_device(bounds.astype(np.int32), hidden.device),
        y,
        width,
        ROWS=8,
        BLOCK=block,
        num_warps=4,
    )
    return y
