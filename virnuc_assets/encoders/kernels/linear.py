"""Linear layers that compute what follows them before their product leaves the registers.

One persistent kernel: every multiprocessor takes tile after tile, fed by the tensor memory
accelerator, so that the next tile's operands are on their way while one is finished. What follows
the product (rotary positions, GELU, its gated form, the residual sum) makes no pass over memory of
its own. Widths must be multiples of 256. For float8 operands the product is first multiplied by
the scales of its rows and columns.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from virnuc_assets.encoders.kernels.float8 import Float8
from virnuc_assets.encoders.kernels.gelu import gelu

# A tile of the product, and how many rows of tiles are neighbours in time (they share operands in
# the L2 cache); measured on an H200.
_ROWS, _COLUMNS, _GROUP = 128, 256, 16
_DEPTH_BYTES = 128


class Rotary(NamedTuple):
    """`positions` (T,), int32, and the angles' `cos` and `sin` (positions, Dh/2), float32."""

    positions: Tensor
    cos: Tensor
    sin: Tensor


@triton.jit
def _linear(
    x_desc,
    w_desc,
    y_desc,
    bias_ptr,
    x_scale_ptr,
    w_scale_ptr,
    position_ptr,
    cos_ptr,
    sin_ptr,
    M,
    N,
    K,
    EPILOGUE: tl.constexpr,
    HALF: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    rows = tl.cdiv(M, BM)
    columns = N // BN
    for tile in tl.range(tl.program_id(0), rows * columns, PROGRAMS, flatten=True):
        group = tile // (GROUP * columns)
        size = min(rows - group * GROUP, GROUP)
        within = tile % (GROUP * columns)
        m = (group * GROUP + within % size) * BM
        n = (within // size) * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(tl.cdiv(K, BK)):
            acc = tl.dot(x_desc.load([m, k * BK]), w_desc.load([n, k * BK]).T, acc)
        row = m + tl.arange(0, BM)
        column = n + tl.arange(0, BN)
        if x_scale_ptr is not None:
            acc *= tl.load(x_scale_ptr + row, mask=row < M, other=0.0)[:, None]
            acc *= tl.load(w_scale_ptr + column)[None, :]
        if bias_ptr is not None:
            acc += tl.load(bias_ptr + column)[None, :]
        if EPILOGUE == "rotate":
            if n < 2 * (N // 3):
                place = tl.load(position_ptr + row, mask=row < M, other=0)
                at = place[:, None] * HALF + tl.arange(0, HALF)[None, :]
                cos = tl.load(cos_ptr + at)[:, None, :]
                sin = tl.load(sin_ptr + at)[:, None, :]
                a, b = tl.split(tl.reshape(acc, (BM, BN // (2 * HALF), HALF, 2)))
                acc = tl.reshape(tl.join(a * cos - b * sin, b * cos + a * sin), (BM, BN))
            y_desc.store([m, n], acc.to(y_desc.dtype))
        elif EPILOGUE == "gelu":
            y_desc.store([m, n], gelu(acc).to(y_desc.dtype))
        elif EPILOGUE == "geglu":
            gate, value = tl.split(tl.reshape(acc, (BM, BN // 2, 2)))
            y_desc.store([m, n // 2], (gelu(gate) * value).to(y_desc.dtype))
        else:
            halves = tl.permute(tl.reshape(acc, (BM, 2, BN // 2)), (0, 2, 1))
            left, right = tl.split(halves)
            left += y_desc.load([m, n]).to(tl.float32)
            y_desc.store([m, n], left.to(y_desc.dtype))
            right += y_desc.load([m, n + BN // 2]).to(tl.float32)
            y_desc.store([m, n + BN // 2], right.to(y_desc.dtype))


def rotary_linear(
    x: Tensor | Float8, weight: Tensor | Float8, bias: Tensor, rotary: Rotary, dtype: torch.dtype
) -> Tensor:
    """x·Wᵀ + b, (T, 3·d), with the first two thirds (queries and keys) rotated.

    Rows of `weight` must be ordered as `interleave_pairs` says. `bias`: (3·d,), float32.
    """
    return _launch("rotate", x, weight, bias, dtype, rotary=rotary)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(x·Wᵀ + b) with the error function; `bias` (n,), float32."""
    return _launch("gelu", x, weight, bias, x.dtype)


def geglu_linear(x: Tensor, weight: Tensor) -> Tensor:
    """GELU(x·Gᵀ) · (x·Vᵀ), (T, f); rows of `weight` (2·f, k) are those of G and V in turn."""
    return _launch("geglu", x, weight, None, x.dtype)


def add_linear_float8_(y: Tensor, x: Float8, weight: Float8) -> Tensor:
    """Add x·Wᵀ to `y` (T, n) in place; returns it."""
    return _launch("add", x, weight, None, y.dtype, y=y)


def _launch(
    epilogue: str,
    x: Tensor | Float8,
    weight: Tensor | Float8,
    bias: Tensor | None,
    dtype: torch.dtype,
    y: Tensor | None = None,
    rotary: Rotary | None = None,
) -> Tensor:
    x, x_scales = x if isinstance(x, Float8) else (x, None)
    weight, w_scales = weight if isinstance(weight, Float8) else (weight, None)
    (m, k), n = x.shape, weight.shape[0]
    if y is None:
        y = torch.empty(m, n // 2 if epilogue == "geglu" else n, device=x.device, dtype=dtype)
    depth = _DEPTH_BYTES // x.element_size()
    width = _COLUMNS if epilogue in ("rotate", "gelu") else _COLUMNS // 2
    programs = min(_multiprocessors(x.device), triton.cdiv(m, _ROWS) * (n // _COLUMNS))
    _linear[(programs,)](
        TensorDescriptor.from_tensor(x, [_ROWS, depth]),
        TensorDescriptor.from_tensor(weight, [_COLUMNS, depth]),
        TensorDescriptor.from_tensor(y, [_ROWS, width]),
        bias,
        x_scales,
        w_scales,
        *(rotary or (None, None, None)),
        m,
        n,
        k,
        EPILOGUE=epilogue,
        HALF=rotary.cos.shape[1] if rotary else 0,
        BM=_ROWS,
        BN=_COLUMNS,
        BK=depth,
        GROUP=_GROUP,
        PROGRAMS=programs,
        num_warps=8,
        num_stages=3,
    )
    return y


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
