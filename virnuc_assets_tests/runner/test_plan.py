from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.runner.plan import Block, plan_shard


@given(
    lengths=st.lists(st.integers(1, 50), max_size=60),
    n_shards=st.integers(1, 5),
    max_sequences=st.integers(1, 10),
    max_letters=st.integers(1, 120),
)
def test_blocks_cover_every_row_once_within_their_limits(
    lengths, n_shards, max_sequences, max_letters
):
    table = np.array(lengths, np.int64)
    for shard in range(n_shards):
        of_shard = table[shard::n_shards]
        blocks = plan_shard(table, shard, n_shards, max_sequences, max_letters)
        assert [block.block for block in blocks] == list(range(len(blocks)))
        assert blocks[0].start == 0
        assert blocks[-1].stop == len(of_shard)
        assert all(a.stop == b.start for a, b in pairwise(blocks))
        for block in blocks:
            assert block.letters == of_shard[block.start : block.stop].sum()
            assert block.stop - block.start <= max_sequences
            assert block.letters <= max_letters or block.stop - block.start == 1


def test_an_empty_shard_is_one_empty_block():
    (block,) = plan_shard(np.array([5], np.int64), 1, 2, 10, 10)
    assert (block.start, block.stop, block.letters) == (0, 0, 0)


def test_a_shard_of_several_blocks_ends_in_smaller_ones():
    blocks = plan_shard(np.full(1000, 10, np.int64), 0, 1, 10_000, 1200)
    letters = [block.letters for block in blocks]
    assert letters[0] == 1200
    assert letters == sorted(letters, reverse=True)
    assert letters[-2] == 150  # the last is what is left
    assert len(plan_shard(np.full(100, 10, np.int64), 0, 1, 10_000, 1200)) == 1


def test_pieces_of_a_block_share_its_letters():
    block = Block(3, 7, 10, 20, 100)
    piece = block.piece(12, 15)
    assert (piece.shard, piece.block, piece.start, piece.stop) == (3, 7, 12, 15)
    assert (piece.letters, piece.sequences, piece.whole) == (30, 3, False)
