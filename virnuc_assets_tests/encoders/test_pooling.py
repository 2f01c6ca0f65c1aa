import numpy as np
import torch

from virnuc_assets.encoders.pooling import boundaries, join_windows, segment_means


def test_means_are_those_of_each_segment_without_its_margin():
    hidden = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    cu_seqlens = np.array([0, 3, 20, 31, 40], dtype=np.int32)
    for margin in (0, 1):
        means = segment_means(hidden, boundaries(cu_seqlens, items=3, margin=margin))
        expected = [hidden[a + margin : b - margin].mean(0) for a, b in [(0, 3), (3, 20), (20, 31)]]
        torch.testing.assert_close(means, torch.stack(expected), atol=1e-6, rtol=0)


def test_a_mean_is_the_same_bit_for_bit_wherever_the_segment_lies():
    generator = torch.Generator().manual_seed(1)
    segment = torch.randn(500, 16, generator=generator)
    alone = segment_means(segment, np.array([0, 500]))
    for before, after in [(1, 0), (37, 12), (1000, 700)]:
        around = [torch.randn(n, 16, generator=generator) for n in (before, after)]
        bounds = np.array([0, before, before, before + 500])
        means = segment_means(torch.cat([around[0], segment, around[1]]), bounds)
        assert torch.equal(means[1], alone[0])


def test_half_precision_is_summed_in_float32():
    hidden = torch.full((4000, 2), 30.0, dtype=torch.float16)  # their sum overflows float16
    means = segment_means(hidden, np.array([0, 4000]))
    assert means.dtype == torch.float32
    assert torch.equal(means, torch.full((1, 2), 30.0))


def test_windows_are_joined_by_their_lengths_and_single_ones_left_alone():
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rows, lengths = np.array([0, 1, 1, 1, 2]), np.array([7, 10, 10, 9, 4])

    joined = join_windows(values, rows, lengths)

    assert joined.dtype == np.float32
    assert np.array_equal(joined[[0, 2]], values[[0, 4]])
    expected = np.average(values[1:4].astype(float), axis=0, weights=[10, 10, 9])
    np.testing.assert_allclose(joined[1], expected, rtol=1e-6)


def test_no_items_join_to_no_rows():
    assert join_windows(np.empty((0, 3), np.float32), np.empty(0, int), np.empty(0, int)).shape == (
        0,
        3,
    )
