"""Layer norm of a residual stream in one reading and one writing."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from virnuc_assets.encoders.kernels.float8 import Float8, quantise


@triton.jit
def _layer_norm(
    x_ptr,
    offset_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    scale_ptr,
    tokens,
    width,
    eps,
    WRITE_BACK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.arange(0, BLOCK)
    inside = column < width
    offset = tl.load(offset_ptr + column, mask=inside, other=0.0)
    if weight_ptr is not None:
        weight = tl.load(weight_ptr + column, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + column, mask=inside, other=0.0)
    for i in tl.static_range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + i
        here = inside & (row < tokens)
        x = tl.load(x_ptr + row * width + column, mask=here, other=0.0).to(tl.float32) + offset
        if WRITE_BACK:
            tl.store(x_ptr + row * width + column, x, mask=here)
        mean = tl.sum(x, axis=0) / width
        centred = tl.where(inside, x - mean, 0.0)
        variance = tl.sum(centred * centred, axis=0) / width
        y = centred * (1.0 / tl.sqrt(variance + eps))
        if weight_ptr is not None:
            y = y * weight + bias
        if scale_ptr is not None:
            y, scale = quantise(y)
            tl.store(scale_ptr + row, scale, mask=row < tokens)
        tl.store(y_ptr + row * width + column, y, mask=here)


def layer_norm(
    x: Tensor,
    offset: Tensor,
    eps: float,
    affine: tuple[Tensor, Tensor] | None = None,
    out: Tensor | None = None,
    write_back: bool = False,
) -> Tensor:
    """Layer norm of the rows of `x` (T, d) + `offset` (d,), float32; `out` may be `x`.

    `affine`: weight and bias (d,), float32, for a norm that has not been folded into what follows.
    `write_back`: let `x` be the sum from now on, where `out` is another.
    """
    y = torch.empty_like(x) if out is None else out
    _launch(x, offset, eps, affine or (None, None), y, None, write_back)
    return y


def layer_norm_float8(x: Tensor, offset: Tensor, eps: float, write_back: bool = False) -> Float8:
    """`layer_norm` with its result as e4m3."""
    y = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    scales = torch.empty(len(x), 1, device=x.device, dtype=torch.float32)
    _launch(x, offset, eps, (None, None), y, scales, write_back)
    return Float8(y, scales)


def _launch(
    x: Tensor,
    offset: Tensor,
    eps: float,
    affine: tuple[Tensor, Tensor] | tuple[None, None],
    y: Tensor,
    scales: Tensor | None,
    write_back: bool,
) -> None:
    tokens, width = x.shape
    # Weights are read once for several short rows; a long row keeps a program busy by itself.
    rows = 4 if width <= 1024 else 1
    _layer_norm[(triton.cdiv(tokens, rows),)](
        *(x, offset, *affine, y, scales, tokens, width, eps),
        WRITE_BACK=write_back,
        ROWS=rows,
        BLOCK=triton.next_power_of_2(width),
        num_warps=4,
    )
