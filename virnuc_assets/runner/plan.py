"""Cutting shards into blocks. Depends on the sequences and the job alone, never on devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Block:
    """The unit of work, checkpoint and hand-out: consecutive rows of one shard."""

    shard: int
    block: int
    start: int
    """First position within the shard."""
    stop: int
    letters: int
    """Residues or bases in the block: what it costs."""


def plan_shard(
    lengths: np.ndarray, shard: int, n_shards: int, max_sequences: int, max_letters: int
) -> list[Block]:
    """Cut rows `shard::n_shards` into blocks.

    Args:
        lengths: letters per row of the whole sequence table, shape (n,), int64.
        shard: counted from 0.
        n_shards: shards of the table.
        max_sequences: a block holds no more sequences.
        max_letters: a block holds no more letters, unless it is one sequence.

    Returns:
        The blocks in order; one empty block for an empty shard, so that every shard is made the
        same way.
    """
    of_shard = lengths[shard::n_shards]
    ends = np.cumsum(of_shard)
    blocks: list[Block] = []
    start = 0
    while start < len(of_shard) or not blocks:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + max_letters, side="right"))
        stop = min(max(stop, start + 1), start + max_sequences, len(of_shard))
        letters = (int(ends[stop - 1]) - before) if stop > start else 0
        blocks.append(Block(shard, len(blocks), start, stop, letters))
        start = stop
    return blocks
