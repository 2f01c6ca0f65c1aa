"""Attention within the segments of a pack, made for short segments.

One program computes one tile, a block of queries of one segment, for one or several heads, against
all keys of that segment from its start. The block sizes follow from the segment's own length, so
nothing a tile computes depends on where its segment lies or what is beside it: a sequence's values
are the same bits in any pack.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from virnuc_assets.encoders.tiles import PLANS, Plan

_LOG2_E = 1.4426950408889634


@triton.jit
def _attend_within_a_block(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    slope_ptr,
    tile_ptr,
    q_stride,
    k_stride,
    v_stride,
    scale,
    ALIBI: tl.constexpr,
    HEADS: tl.constexpr,
    PER: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
):
    tile = tile_ptr + tl.program_id(0) // (HEADS // PER) * 3
    head_0 = tl.program_id(0) % (HEADS // PER) * PER
    start = tl.load(tile).to(tl.int64)
    length = tl.load(tile + 1)
    query = tl.load(tile + 2) + tl.arange(0, M)
    key = tl.arange(0, N)
    within = tl.arange(0, WIDTH)
    q_ptr += start * q_stride
    k_ptr += start * k_stride
    v_ptr += start * v_stride
    out_ptr += start * (HEADS * WIDTH)
    q_at = query[:, None] * q_stride + within[None, :]
    k_at = key[:, None] * k_stride + within[None, :]
    v_at = key[:, None] * v_stride + within[None, :]
    out_at = query[:, None] * (HEADS * WIDTH) + within[None, :]
    # Rows beyond the segment are another's: a weight of zero would not hold back their NaN.
    here = (query < length)[:, None]
    there = (key < length)[:, None]
    for head in range(head_0, head_0 + PER):
        q = tl.load(q_ptr + head * WIDTH + q_at, mask=here, other=0.0)
        k = tl.load(k_ptr + head * WIDTH + k_at, mask=there, other=0.0)
        v = tl.load(v_ptr + head * WIDTH + v_at, mask=there, other=0.0)
        score = tl.dot(q, tl.trans(k))
        if ALIBI:
            slope = tl.load(slope_ptr + head)
            score -= tl.abs((slope * query)[:, None] - (slope * key)[None, :])
        score = tl.where((key < length)[None, :], score, float("-inf"))
        largest = tl.max(score, axis=1) * scale
        weight = tl.exp2(score * scale - largest[:, None])
        total = tl.sum(weight, axis=1)
        result = tl.dot(weight.to(q.dtype), v) / total[:, None]
        tl.store(out_ptr + head * WIDTH + out_at, result.to(q.dtype), mask=here)


@triton.jit
def _add_block(
    q,
    k,
    v,
    query,
    key,
    length,
    slope,
    scale,
    largest,
    total,
    result,
    ALIBI: tl.constexpr,
    MASKED: tl.constexpr,
):
    score = tl.dot(q, tl.trans(k))
    if ALIBI:
        score -= tl.abs((slope * query)[:, None] - (slope * key)[None, :])
    if MASKED:
        score = tl.where((key < length)[None, :], score, float("-inf"))
    new = tl.maximum(largest, tl.max(score, axis=1) * scale)
    weight = tl.exp2(score * scale - new[:, None])
    shrink = tl.exp2(largest - new)
    total = total * shrink + tl.sum(weight, axis=1)
    result = tl.dot(weight.to(q.dtype), v, result * shrink[:, None])
    return new, total, result


@triton.jit
def _attend_over_blocks(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    slope_ptr,
    tile_ptr,
    q_stride,
    k_stride,
    v_stride,
    scale,
    ALIBI: tl.constexpr,
    HEADS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
):
    tile = tile_ptr + tl.program_id(0) // HEADS * 3
    head = tl.program_id(0) % HEADS
    start = tl.load(tile).to(tl.int64)
    length = tl.load(tile + 1)
    query = tl.load(tile + 2) + tl.arange(0, M)
    within = tl.arange(0, WIDTH)
    here = (query < length)[:, None]
    q_ptr += start * q_stride + head * WIDTH
    k_ptr += start * k_stride + head * WIDTH
    v_ptr += start * v_stride + head * WIDTH
    q = tl.load(q_ptr + query[:, None] * q_stride + within[None, :], mask=here, other=0.0)
    slope = 0.0
    if ALIBI:
        slope = tl.load(slope_ptr + head)
    largest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    result = tl.zeros([M, WIDTH], tl.float32)
    whole = length // N * N
    for begin in range(0, whole, N):
        key = begin + tl.arange(0, N)
        k = tl.load(k_ptr + key[:, None] * k_stride + within[None, :])
        v = tl.load(v_ptr + key[:, None] * v_stride + within[None, :])
        largest, total, result = _add_block(
            q, k, v, query, key, length, slope, scale, largest, total, result, ALIBI, False
        )
    if whole < length:
        key = whole + tl.arange(0, N)
        there = (key < length)[:, None]
        # Rows beyond the segment are another's: a weight of zero would not hold back their NaN.
        k = tl.load(k_ptr + key[:, None] * k_stride + within[None, :], mask=there, other=0.0)
        v = tl.load(v_ptr + key[:, None] * v_stride + within[None, :], mask=there, other=0.0)
        largest, total, result = _add_block(
            q, k, v, query, key, length, slope, scale, largest, total, result, ALIBI, True
        )
    result = result / total[:, None]
    out_ptr += start * (HEADS * WIDTH) + head * WIDTH
    at = query[:, None] * (HEADS * WIDTH) + within[None, :]
    tl.store(out_ptr + at, result.to(q.dtype), mask=here)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiles: Sequence[Tensor],
    alibi_slopes: Tensor | None,
    plans: tuple[Plan, ...] = PLANS,
) -> Tensor:
    """Attention of q, k, v (T, H, Dh) over `tiles` on their device; (T, H, Dh), contiguous.

    The last two dimensions of each must be contiguous; the first may stride, so that all three
    may be views of one fused projection.
    """
    tokens, heads, width = q.shape
    if any(x.stride()[1:] != (width, 1) for x in (q, k, v)):
        raise ValueError("heads of q, k and v must lie side by side")
    out = torch.empty(tokens, heads, width, device=q.device, dtype=q.dtype)
    # Biases are subtracted before scores are scaled.
    slopes = None if alibi_slopes is None else alibi_slopes * width**0.5
    for plan, mine in zip(plans, tiles, strict=True):
        if not len(mine):
            continue
        per = plan.heads if heads % plan.heads == 0 else 1
        arguments = (
            *(q, k, v, out, slopes, mine, q.stride(0), k.stride(0), v.stride(0)),
            _LOG2_E / width**0.5,
            slopes is not None,
            heads,
        )
        sizes = (plan.queries, plan.keys, width)
        options = {
            "num_warps": plan.num_warps,
            "num_stages": plan.num_stages,
            "maxnreg": plan.maxnreg,
        }
        if plan.longest <= plan.keys:
            _attend_within_a_block[(len(mine) * heads // per,)](*arguments, per, *sizes, **options)
        else:
            _attend_over_blocks[(len(mine) * heads,)](*arguments, *sizes, **options)
    return out
