"""Cutting shards into blocks. Depends on the sequences and the job alone, never on devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Towards its end a shard is cut into smaller blocks, never more than this share of what is left,
# down to this share of a block: so that many devices finish together. Smaller blocks would be
# more files and messages.
_OF_THE_REST = 4
_OF_A_BLOCK = 8


@dataclass(frozen=True)
class Block:
    """The unit of work, checkpoint and hand-out: consecutive rows of one shard."""

    shard: int
    block: int
    start: int
    """First position within the shard."""
    stop: int
    letters: int
    """Residues or bases in the block: what it costs. Of a piece: its share of the block's."""
    whole: bool = True
    """False for a piece of a block that was cut to find the sequence that breaks it."""

    @property
    def sequences(self) -> int:
        """Sequences in the block."""
        return self.stop - self.start

    def piece(self, start: int, stop: int) -> Block:
        """The piece from `start` to `stop`, positions within the shard."""
        letters = self.letters * (stop - start) // max(1, self.sequences)
        return Block(self.shard, self.block, start, stop, letters, whole=False)


def plan_shard(
    lengths: np.ndarray, shard: int, n_shards: int, max_sequences: int, max_letters: int
) -> list[Block]:
    """Cut rows `shard::n_shards` into blocks.

    Args:
        lengths: letters per row of the whole sequence table, shape (n,), int64.
        shard: counted from 0.
        n_shards: shards of the table.
        max_sequences: a block holds no more sequences.
        max_letters: a block holds no more letters, unless it is one sequence; the last ones of a
            shard hold less.

    Returns:
        The blocks in order; one empty block for an empty shard, so that every shard is made the
        same way.
    """
    of_shard = lengths[shard::n_shards]
    ends = np.cumsum(of_shard)
    total = int(ends[-1]) if len(ends) else 0
    blocks: list[Block] = []
    start = 0
    while start < len(of_shard) or not blocks:
        before = int(ends[start - 1]) if start else 0
        limit = max_letters
        if total > max_letters:
            limit = min(limit, max(limit // _OF_A_BLOCK, (total - before) // _OF_THE_REST))
        stop = int(np.searchsorted(ends, before + limit, side="right"))
        stop = min(max(stop, start + 1), start + max_sequences, len(of_shard))
        letters = (int(ends[stop - 1]) - before) if stop > start else 0
        blocks.append(Block(shard, len(blocks), start, stop, letters))
        start = stop
    return blocks
