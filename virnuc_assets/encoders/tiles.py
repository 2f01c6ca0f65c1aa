"""Blocks of queries that our attention kernels compute, found on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """How segments of up to `longest` tokens are computed: `queries` × `keys` a block.

    `heads`: heads that one program computes in turn, where their number allows it. The rest are
    Triton's launch options.
    """

    longest: int
    queries: int
    keys: int
    heads: int
    num_warps: int
    num_stages: int
    maxnreg: int | None


PLANS = (
    Plan(32, 32, 32, 1, 1, 2, 128),
    Plan(64, 64, 64, 2, 4, 2, 128),
    Plan(128, 128, 128, 1, 8, 2, 128),
    Plan(256, 64, 32, 1, 4, 3, None),
    Plan(1 << 30, 128, 64, 1, 8, 4, 128),
)
"""Measured on an H200; those whose block of keys is shorter than a segment go block by block."""


def make_tiles(cu_seqlens: np.ndarray, plans: tuple[Plan, ...] = PLANS) -> list[np.ndarray]:
    """The tiles of each plan: start and length of the segment, first query; (n, 3), int32.

    `cu_seqlens`: boundaries of the segments, (segments + 1,), int32.
    """
    starts, lengths = cu_seqlens[:-1], np.diff(cu_seqlens)
    tiles = []
    shortest = 1
    for plan in plans:
        mine = np.flatnonzero((lengths >= shortest) & (lengths <= plan.longest))
        blocks = -(-lengths[mine] // plan.queries)
        segment = np.repeat(mine, blocks)
        number = np.arange(len(segment)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        columns = starts[segment], lengths[segment], number * plan.queries
        tiles.append(np.stack(columns, axis=1).astype(np.int32))
        shortest = plan.longest + 1
    return tiles
