"""Every query of every segment belongs to exactly one tile, of its own length's plan."""

import numpy as np
import pytest

from virnuc_assets.encoders.tiles import PLANS, make_tiles


@pytest.mark.parametrize(
    "lengths", [[1], [64] * 5, [1022, 300, 129, 128, 65, 64, 33, 32, 3, 1], [5, 700, 5, 40]]
)
def test_tiles_cover_every_query_once_by_the_plan_of_its_segments_length(lengths):
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    covered = np.zeros(cu_seqlens[-1], dtype=int)
    shortest = 1
    for plan, tiles in zip(PLANS, make_tiles(cu_seqlens), strict=True):
        assert tiles.dtype == np.int32
        for start, length, first in tiles:
            segment = np.flatnonzero(cu_seqlens[:-1] == start)[0]
            assert lengths[segment] == length
            assert shortest <= length <= plan.longest
            covered[start + first : start + min(first + plan.queries, length)] += 1
        shortest = plan.longest + 1
    assert (covered == 1).all()
