import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_assets.encoders.packing import (
    Frame,
    Items,
    cut_items,
    first_fit_decreasing,
    make_packs,
    without_padding,
)

FRAME = Frame(first=101, last=102, padding=103)


def plain_first_fit_decreasing(sizes: list[int], budget: int) -> list[list[int]]:
    """The textbook algorithm: each item, longest first, into the first bin with room."""
    bins: list[list[int]] = []
    free: list[int] = []
    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place = next((b for b, room in enumerate(free) if room >= sizes[item]), len(bins))
        if place == len(bins):
            bins.append([])
            free.append(budget)
        bins[place].append(item)
        free[place] -= sizes[item]
    return bins


def items_of(lengths: list[int]) -> Items:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(offsets[-1], dtype=np.int32) % 97
    return cut_items(tokens, offsets, limit=62, long_sequences="truncate")


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 300))
def test_bins_are_those_of_the_textbook_algorithm(sizes, budget):
    bins = first_fit_decreasing(np.array(sizes, dtype=np.int64), budget) if sizes else []
    assert [chosen.tolist() for chosen in bins] == plain_first_fit_decreasing(sizes, budget)


@given(st.lists(st.integers(1, 62), max_size=120), st.integers(64, 400))
def test_packs_hold_every_item_once_in_one_static_shape(lengths, budget):
    items = items_of(lengths)

    packs = make_packs(items, FRAME, budget)

    packed = sorted(item for pack in packs for item in pack.items.tolist())
    assert packed == list(range(len(lengths)))
    for pack in packs:
        assert pack.tokens.shape == pack.positions.shape == (budget,)
        assert pack.cu_seqlens[0] == 0
        assert pack.cu_seqlens[-1] == budget
        assert pack.max_seqlen == np.diff(pack.cu_seqlens).max()
        assert 0 < pack.real_tokens <= budget
    assert sum(pack.real_tokens for pack in packs) == sum(lengths) + 2 * len(lengths)


@given(st.lists(st.integers(1, 62), min_size=1, max_size=60), st.integers(64, 400))
def test_each_segment_is_its_item_in_its_frame_and_the_rest_is_padding(lengths, budget):
    items = items_of(lengths)
    for pack in make_packs(items, FRAME, budget):
        for number, item in enumerate(pack.items):
            segment = slice(pack.cu_seqlens[number], pack.cu_seqlens[number + 1])
            content = items.tokens[items.starts[item] :][: items.lengths[item]].tolist()
            assert pack.tokens[segment].tolist() == [FRAME.first, *content, FRAME.last]
            assert pack.positions[segment].tolist() == list(range(len(content) + 2))
        assert (pack.tokens[pack.real_tokens :] == FRAME.padding).all()
        assert pack.cu_seqlens[len(pack.items)] == pack.real_tokens


@given(st.lists(st.integers(1, 62), min_size=1, max_size=60), st.integers(64, 400))
def test_a_pack_without_padding_holds_the_same_items(lengths, budget):
    for pack in make_packs(items_of(lengths), FRAME, budget):
        cut = without_padding(pack)
        assert np.array_equal(cut.tokens, pack.tokens[: pack.real_tokens])
        assert np.array_equal(cut.positions, pack.positions[: pack.real_tokens])
        assert np.array_equal(cut.cu_seqlens, pack.cu_seqlens[: len(pack.items) + 1])
        assert cut.cu_seqlens[-1] == cut.real_tokens == pack.real_tokens
        assert cut.max_seqlen == np.diff(cut.cu_seqlens).max()


def test_no_sequences_make_no_packs():
    assert make_packs(items_of([]), FRAME, 64) == []


def test_truncating_keeps_the_first_tokens_and_counts_the_sequences():
    items = cut_items(np.arange(30, dtype=np.int32), np.array([0, 4, 17, 30]), 10, "truncate")

    assert items.rows.tolist() == [0, 1, 2]
    assert items.starts.tolist() == [0, 4, 17]
    assert items.lengths.tolist() == [4, 10, 10]
    assert (items.truncated, items.windowed) == (2, 0)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(1, 60))
def test_windows_tile_each_sequence_as_evenly_as_can_be(lengths, limit):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    items = cut_items(np.zeros(offsets[-1], np.int32), offsets, limit, "window")

    assert items.starts.tolist() == [0, *np.cumsum(items.lengths)[:-1].tolist()]
    assert items.windowed == sum(length > limit for length in lengths)
    assert items.truncated == 0
    for row, length in enumerate(lengths):
        windows = items.lengths[items.rows == row]
        assert windows.sum() == length
        assert len(windows) == -(-length // limit)
        assert windows.max() - windows.min() <= 1


@pytest.mark.parametrize("n", [10_000])
def test_a_block_of_mixed_lengths_packs_tightly(n):
    sizes = np.random.default_rng(0).integers(20, 400, n)
    bins = first_fit_decreasing(sizes, 4096)
    assert sizes.sum() / (len(bins) * 4096) > 0.99
