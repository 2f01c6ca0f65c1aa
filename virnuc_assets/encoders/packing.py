"""Sequences of mixed lengths into packs of one static shape.

A pack is `budget` token slots that hold whole items end to end. What an item comes out as does
not depend on the items beside it; packing decides speed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

SPECIAL_TOKENS = 2
# Padding is cut into short segments of its own, so that attention spends little on it.
_PADDING_SEGMENT = 128


@dataclass(frozen=True)
class Frame:
    """Token ids around an item (`first`, `last`) and in slots that hold none (`padding`)."""

    first: int
    last: int
    padding: int


@dataclass(frozen=True)
class Items:
    """What is embedded in one piece: a sequence, or one window of a long one.

    `tokens` (int32) holds the content of all sequences end to end; item i is
    `tokens[starts[i] : starts[i] + lengths[i]]` and belongs to sequence `rows[i]` (never
    decreasing). `starts`, `lengths`, `rows`: shape (m,), int64. `truncated` and `windowed` count
    the sequences that were too long and lost their end, or became several items.
    """

    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    truncated: int
    windowed: int

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Pack:
    """T token slots: whole items, longest first, then padding, unless `without_padding` cut it off.

    `tokens` and `positions` (which restart in every segment): shape (T,), int32.
    `cu_seqlens`: segment boundaries from 0 to T, int32; the first `len(items)` segments are
    the items (numbers into `Items`, int64), the rest padding. `real_tokens` counts the items'
    slots, special tokens included.
    """

    tokens: np.ndarray
    positions: np.ndarray
    cu_seqlens: np.ndarray
    items: np.ndarray
    max_seqlen: int
    real_tokens: int


def cut_items(
    tokens: np.ndarray,
    offsets: np.ndarray,
    limit: int,
    long_sequences: Literal["truncate", "window"],
) -> Items:
    """Items of at most `limit` content tokens from sequences at `offsets` of `tokens`.

    A longer sequence keeps its first `limit` tokens (truncate), or becomes the fewest windows
    that cover it, side by side and of lengths that differ by one at most (window).
    """
    lengths = np.diff(offsets)
    long = lengths > limit
    n_long = int(long.sum())
    if long_sequences == "truncate":
        rows = np.arange(len(lengths))
        return Items(tokens, offsets[:-1], np.minimum(lengths, limit), rows, n_long, 0)
    windows = -(-lengths // limit)
    rows = np.repeat(np.arange(len(lengths)), windows)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(windows) - windows, windows)
    size, longer = lengths[rows] // windows[rows], lengths[rows] % windows[rows]
    starts = offsets[rows] + number * size + np.minimum(number, longer)
    return Items(tokens, starts, size + (number < longer), rows, 0, n_long)


def first_fit_decreasing(
    sizes: np.ndarray, budget: int, first: int | None = None
) -> list[np.ndarray]:
    """Pack `sizes` (m,) into bins of `budget`: the items of each bin, longest first.

    `first`: what a bin that is there already has left; it comes first and may get nothing.
    First-fit decreasing (Johnson 1973). Equal sizes are placed together: first fit puts a run of
    them into the bins in order, as many as each still holds, which is one vectorised step per
    distinct size.
    """
    order = np.argsort(-sizes, kind="stable")
    distinct, counts = np.unique(sizes, return_counts=True)
    free = np.array([] if first is None else [first], dtype=np.int64)
    bins = np.empty(len(sizes), dtype=np.int64)
    done = 0
    for size, count in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        room = np.cumsum(free // size)
        missing = count - (int(room[-1]) if len(room) else 0)
        if missing > 0:
            added = -(-missing // (budget // size))
            free = np.concatenate([free, np.full(added, budget)])
            room = np.cumsum(free // size)
        target = np.searchsorted(room, np.arange(count), side="right")
        bins[order[done : done + count]] = target
        free -= np.bincount(target, minlength=len(free)) * size
        done += count
    by_bin = order[np.argsort(bins[order], kind="stable")]
    return np.split(by_bin, np.cumsum(np.bincount(bins, minlength=len(free)))[:-1])


def make_packs(items: Items, frame: Frame, budget: int) -> list[Pack]:
    """Pack `items`, each framed by two special tokens, into packs of `budget` slots.

    `budget` must be no less than the longest item with its frame.
    """
    if not len(items):
        return []
    members = first_fit_decreasing(items.lengths + SPECIAL_TOKENS, budget)
    return [fill_pack(items, chosen, frame, budget) for chosen in members]


def fill_pack(items: Items, chosen: np.ndarray, frame: Frame, budget: int) -> Pack:
    """The pack of the `chosen` of `items`, in their order; they must fit."""
    sizes = items.lengths[chosen] + SPECIAL_TOKENS
    real_tokens = int(sizes.sum())
    full, rest = divmod(budget - real_tokens, _PADDING_SEGMENT)
    segments = np.concatenate([sizes, [_PADDING_SEGMENT] * full, [rest] * (rest > 0)]).astype(int)
    cu_seqlens = np.concatenate([[0], np.cumsum(segments)]).astype(np.int32)
    positions = np.arange(budget) - np.repeat(cu_seqlens[:-1], segments)

    tokens = np.full(budget, frame.padding, dtype=np.int32)
    # Slot j of an item holds content token j - 1; its first and last slots are overwritten below.
    content = np.repeat(items.starts[chosen], sizes) + positions[:real_tokens] - 1
    tokens[:real_tokens] = items.tokens.take(content, mode="clip")
    ends = np.cumsum(sizes)
    tokens[ends - sizes] = frame.first
    tokens[ends - 1] = frame.last
    return Pack(
        tokens,
        positions.astype(np.int32),
        cu_seqlens,
        chosen,
        int(segments.max()),
        real_tokens,
    )


def without_padding(pack: Pack) -> Pack:
    """`pack` cut to its items' slots."""
    slots, segments = pack.real_tokens, len(pack.items)
    cu_seqlens = pack.cu_seqlens[: segments + 1]
    return replace(
        pack,
        tokens=pack.tokens[:slots],
        positions=pack.positions[:slots],
        cu_seqlens=cu_seqlens,
        max_seqlen=int(np.diff(cu_seqlens).max()),
    )
