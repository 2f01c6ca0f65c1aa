"""What is reported of the distance to float32."""

import numpy as np
import pytest

from virnuc_assets.encoders.agreement import agreement, spread_sample


def test_cosines_are_summed_up_by_least_first_percentile_and_median():
    angles = np.radians(np.arange(101))
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    reference = np.tile(np.float32([3, 0]), (101, 1))
    found = agreement(values, reference)
    assert len(found.cosines) == 101
    assert found.minimum == pytest.approx(np.cos(angles[100]), abs=1e-6)
    assert found.quantile(0.01) == pytest.approx(np.cos(angles[99]), abs=1e-6)
    assert found.quantile(0.5) == pytest.approx(np.cos(angles[50]), abs=1e-6)


def test_batches_are_summed_up_as_one():
    rng = np.random.default_rng(0)
    values, reference = rng.normal(size=(2, 50, 8)).astype(np.float32)
    whole = agreement(values, reference)
    parts = agreement(values[:7], reference[:7]) + agreement(values[7:], reference[7:])
    assert parts == whole


def test_what_is_not_finite_is_no_agreement():
    values = np.ones((2, 3), np.float32)
    values[1, 0] = np.nan
    assert np.isnan(agreement(values, np.ones_like(values)).minimum)


@pytest.mark.parametrize(("n", "size"), [(1, 32), (5, 32), (1000, 32)])
def test_a_sample_spreads_from_the_first_row_to_the_last(n, size):
    sample = spread_sample(n, size)
    assert len(sample) == min(n, size)
    assert (sample[0], sample[-1]) == (0, n - 1)
    assert (np.diff(sample) > 0).all()
