"""Attention within the segments of a pack: one interface, five backends.

A backend computes softmax(q·kᵀ / sqrt(Dh) + bias)·v inside every segment, for q, k, v of shape
(T, H, Dh); a token never sees another segment. With `alibi_slopes` (H,), float32, the bias is
−slope·|i−j| (MosaicBERT's symmetric ALiBi, Portes et al. 2023), else nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from virnuc_assets.encoders.tiles import make_tiles
from virnuc_assets.errors import BackendError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

log = logging.getLogger(__name__)

BackendName = Literal["triton", "flash-attn", "torch-varlen", "flex", "sdpa"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
_FLEX_BLOCK = 128
# Of the segments that a backend is tried on: one for each plan of our own kernels.
_TRIAL_LENGTHS = (16, 48, 100, 200, 300)


@dataclass(frozen=True)
class Segments:
    """Where a pack's segments lie.

    `cu_seqlens`: boundaries on the device, shape (n + 1,), int32. `runs`: for SDPA alone, the same
    on the host as (start, count, length) of neighbouring segments of equal length. `tiles`: for
    our own kernels alone, `tiles.make_tiles` on the device. `block_mask`: for FlexAttention alone.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    runs: tuple[tuple[int, int, int], ...]
    tiles: tuple[Tensor, ...] = ()
    block_mask: BlockMask | None = None


Varlen = Callable[[Tensor, Tensor, Tensor, Segments, Tensor | None], Tensor]


@dataclass(frozen=True)
class Attention:
    """A chosen backend: `varlen(q, k, v, segments, alibi_slopes)` and why it was chosen."""

    name: BackendName
    reason: str
    varlen: Varlen

    def segments(self, cu_seqlens: np.ndarray, max_seqlen: int, device: torch.device) -> Segments:
        """Prepare the segments of one pack (boundaries `cu_seqlens`, int32) on `device`."""
        runs = _runs(cu_seqlens) if self.name == "sdpa" else ()
        boundaries = to_device(cu_seqlens, device)
        tiles = _tiles(cu_seqlens, device) if self.name == "triton" else ()
        mask = _block_mask(cu_seqlens, device) if self.name == "flex" else None
        return Segments(boundaries, max_seqlen, runs, tiles, mask)


def choose_backend(
    requested: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    needs_alibi: bool,
    head_dim: int,
) -> Attention:
    """Resolve `requested` ("auto" or a backend's name) once, and log the choice.

    "auto" takes the first that can serve of: triton, flash-attn, torch-varlen, flex, sdpa. On a
    GPU a backend is tried out on a few small segments.

    Raises:
        BackendError: an unknown name, or a forced backend that can't serve, with the reason.
    """
    if requested not in ("auto", *BACKENDS):
        raise BackendError(
            f"attention={requested}: no such backend; use auto or one of {', '.join(BACKENDS)}"
        )
    passed_over: dict[str, str] = {}
    for name in BACKENDS:
        if requested not in ("auto", name):
            continue
        backend = Attention(name, _reason(requested, passed_over), _VARLEN[name])
        obstacle = _obstacle(backend, device, dtype, needs_alibi, head_dim)
        if obstacle is None:
            log.info("attention backend %s (%s)", backend.name, backend.reason)
            return backend
        passed_over[name] = obstacle
    raise BackendError(
        f"attention={requested}: can't serve here ({passed_over[requested]}); use attention=auto"
    )


def _reason(requested: str, passed_over: dict[str, str]) -> str:
    if requested != "auto":
        return "forced"
    obstacles = groupby(passed_over, key=passed_over.__getitem__)
    return "; ".join(["auto", *(f"not {', '.join(names)}: {why}" for why, names in obstacles)])


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy `array` to `device`; to a GPU from pinned memory, without waiting."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _obstacle(
    backend: Attention,
    device: torch.device,
    dtype: torch.dtype,
    needs_alibi: bool,
    head_dim: int,
) -> str | None:
    """Why `backend` can't serve, or None if it can."""
    if backend.name == "sdpa":
        return None
    if device.type != "cuda":
        return "needs a CUDA device"
    if dtype == torch.float32:
        return "needs float16 or bfloat16"
    if backend.name == "torch-varlen" and needs_alibi:
        return "has no ALiBi"
    package = {"triton": "triton", "flash-attn": "flash_attn"}.get(backend.name)
    if package and find_spec(package) is None:
        return "is not installed"
    if backend.name == "triton" and head_dim not in (16, 32, 64, 128):
        return f"has no heads of {head_dim}"
    return trial(backend, device, dtype, needs_alibi, head_dim)


def trial(
    backend: Attention,
    device: torch.device,
    dtype: torch.dtype,
    needs_alibi: bool,
    head_dim: int,
) -> str | None:
    """Why `backend` fails on a few small segments, or None if it doesn't.

    Whether a build holds kernels for this GPU and head size shows on a first call alone; our own
    has one for each range of lengths.
    """
    boundaries = np.cumsum([0, *_TRIAL_LENGTHS]).astype(np.int32)
    q = torch.zeros(int(boundaries[-1]), 1, head_dim, device=device, dtype=dtype)
    slopes = torch.ones(1, device=device) if needs_alibi else None
    failures: tuple[type[Exception], ...] = (
        ImportError,
        RuntimeError,
        ValueError,
        *_triton_errors(),
    )
    try:
        segments = backend.segments(boundaries, max(_TRIAL_LENGTHS), device)
        backend.varlen(q, q, q, segments, slopes).cpu()
    except failures as error:
        return f"fails here with {(str(error).splitlines() or [repr(error)])[0]!r}"
    return None


def _triton_errors() -> tuple[type[Exception], ...]:
    if find_spec("triton") is None:
        return ()
    from triton.errors import TritonError

    return (TritonError,)


def _triton(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, alibi_slopes: Tensor | None
) -> Tensor:
    from virnuc_assets.encoders.kernels.attention import attend

    return attend(q, k, v, segments.tiles, alibi_slopes)


def _tiles(cu_seqlens: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
    tiles = make_tiles(cu_seqlens)
    return to_device(np.concatenate(tiles), device).split([len(mine) for mine in tiles])


def _flash_attn(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, alibi_slopes: Tensor | None
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    cu, longest = segments.cu_seqlens, segments.max_seqlen
    return flash_attn_varlen_func(
        q, k, v, cu, cu, longest, longest, causal=False, alibi_slopes=alibi_slopes
    )


def _torch_varlen(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, alibi_slopes: Tensor | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    cu, longest = segments.cu_seqlens, segments.max_seqlen
    out = varlen_attn(q, k, v, cu, cu, longest, longest)
    assert isinstance(out, Tensor)
    return out


def _runs(cu_seqlens: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    runs = []
    start = 0
    for length, group in groupby(np.diff(cu_seqlens).tolist()):
        count = len(list(group))
        runs.append((start, count, length))
        start += count * length
    return tuple(runs)


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, alibi_slopes: Tensor | None
) -> Tensor:
    """One batched SDPA per run of equal lengths: no padding, no mask, nothing shared."""
    out = torch.empty_like(q)
    for start, count, length in segments.runs:
        here = slice(start, start + count * length)

        def heads(
            x: Tensor, here: slice = here, shape: tuple[int, int] = (count, length)
        ) -> Tensor:
            return x[here].unflatten(0, shape).transpose(1, 2)

        bias = None
        if alibi_slopes is not None:
            place = torch.arange(length, device=q.device)
            distance = (place[:, None] - place).abs()
            # Of four dimensions: with three, torch takes a path whose bits depend on the batch.
            bias = (-alibi_slopes[:, None, None] * distance).to(q.dtype)[None]
        y = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), attn_mask=bias)
        out[here] = y.transpose(1, 2).flatten(0, 1)
    return out


def _flex(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, alibi_slopes: Tensor | None
) -> Tensor:
    def alibi(score: Tensor, b: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        assert alibi_slopes is not None
        return score - alibi_slopes[head] * (i - j).abs()

    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out = _flex_attention()(
        q, k, v, score_mod=None if alibi_slopes is None else alibi, block_mask=segments.block_mask
    )
    return out[0].transpose(0, 1)


@cache
def _flex_attention() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Uncompiled FlexAttention materialises all T × T scores.
    return torch.compile(flex_attention, dynamic=False)


def _block_mask(cu_seqlens: np.ndarray, device: torch.device) -> BlockMask:
    """The blocks of keys that each block of queries needs: one contiguous range, found on the host.

    `create_block_mask` would evaluate all T × T pairs.
    """
    from torch.nn.attention.flex_attention import BlockMask

    total = int(cu_seqlens[-1])
    segment = np.repeat(np.arange(len(cu_seqlens) - 1), np.diff(cu_seqlens)).astype(np.int32)
    first = np.arange(0, total, _FLEX_BLOCK)
    last = np.minimum(first + _FLEX_BLOCK, total) - 1
    low = cu_seqlens[segment[first]] // _FLEX_BLOCK
    high = (cu_seqlens[segment[last] + 1] - 1) // _FLEX_BLOCK
    indices = np.minimum(low[:, None] + np.arange(len(first)), len(first) - 1).astype(np.int32)
    on_device = to_device(segment, device)

    def same_segment(b: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return on_device[i] == on_device[j]

    return BlockMask.from_kv_blocks(
        to_device((high - low + 1).astype(np.int32)[None, None], device),
        to_device(indices[None, None], device),
        BLOCK_SIZE=_FLEX_BLOCK,
        mask_mod=same_segment,
        seq_lengths=(total, total),
        compute_q_blocks=False,
    )


_VARLEN: dict[BackendName, Varlen] = {
    "triton": _triton,
    "flash-attn": _flash_attn,
    "torch-varlen": _torch_varlen,
    "flex": _flex,
    "sdpa": _sdpa,
}

SDPA = Attention("sdpa", "serves everywhere", _sdpa)
"""The backend that needs no choosing: any device, any data type, with ALiBi or without."""
