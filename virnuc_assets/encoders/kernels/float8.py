"""Rows of values as e4m3 and a float32 scale each."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from virnuc_assets.encoders.kernels.gelu import gelu


class Float8(NamedTuple):
    """Rows of e4m3 `values` (n, k) and their `scales` (n, 1), float32."""

    values: Tensor
    scales: Tensor


@triton.jit
def quantise(x):
    """One row `x`, float32, as e4m3 values and the scale they are to be multiplied by."""
    largest = tl.max(tl.abs(x), axis=0)
    # A row of zeros must not divide by zero.
    scale = tl.maximum(largest, 1e-12, propagate_nan=tl.PropagateNan.ALL) * (1.0 / 448.0)
    return (x * (1.0 / scale)).to(tl.float8e4nv), scale


@triton.jit
def _quantise_rows(x_ptr, y_ptr, scale_ptr, width, GELU: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    x = tl.load(x_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        x = gelu(x)
    y, scale = quantise(x)
    tl.store(y_ptr + row * width + column, y, mask=inside)
    tl.store(scale_ptr + row, scale)


def quantise_rows(x: Tensor) -> Float8:
    """Rows of contiguous `x` (n, k) as e4m3."""
    return _launch(x, False)


def gelu_float8(x: Tensor) -> Float8:
    """GELU of each row of contiguous `x` (n, k) as e4m3."""
    return _launch(x, True)


def _launch(x: Tensor, with_gelu: bool) -> Float8:
    rows, width = x.shape
    y = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scales = torch.empty(rows, 1, device=x.device, dtype=torch.float32)
    block = triton.next_power_of_2(width)
    _quantise_rows[(rows,)](x, y, scales, width, GELU=with_gelu, BLOCK=block, num_warps=8)
    return Float8(y, scales)
