"""What is reported of the distance to float32."""

import numpy as np
import pytest

from virnuc_assets.encoders.agreement import Agreement, agreement, spread_sample
from virnuc_assets.encoders.encoder import check_fp8
from virnuc_assets.errors import BackendError


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
    assert parts.cosines == whole.cosines
    # Seven have no centre of their own; the others have theirs.
    assert parts.centred == agreement(values[7:], reference[7:]).centred
    assert (len(whole.centred), len(parts.centred)) == (50, 43)


def test_what_is_not_finite_is_no_agreement():
    values = np.ones((2, 3), np.float32)
    values[1, 0] = np.nan
    assert np.isnan(agreement(values, np.ones_like(values)).minimum)


def test_what_embeddings_share_hides_an_error_from_plain_cosines_and_not_from_centred_ones():
    rng = np.random.default_rng(1)
    shared, own, error = 100.0, rng.normal(size=(40, 64)), rng.normal(size=(40, 64))
    found = agreement(shared + own + error, shared + own)
    assert found.minimum > 0.999
    # An error as large as what tells them apart: 45 degrees.
    assert found.centred_median == pytest.approx(np.sqrt(0.5), abs=0.05)
    assert agreement(shared + own, shared + own).centred_median == pytest.approx(1)


def test_sequences_that_are_all_alike_have_no_centred_cosines():
    values = np.ones((20, 8), np.float32)
    found = agreement(values * 1.001, values)
    assert (found.centred, found.centred_median) == ((), None)
    assert len(found.cosines) == 20


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Agreement((0.9999, 0.98)), "an embedding's cosine to float32 is 0.9800, under 0.99; use"),
        (Agreement((0.9999, np.nan)), "cosine to float32 is nan, under 0.99"),
        (Agreement((0.999,) * 3, (0.95, 0.8, 0.7)), "median cosine .* of 0.8000, under 0.9; use"),
        (Agreement((0.999,) * 3, (0.95, np.nan, 0.99)), "median cosine .* of nan, under 0.9; use"),
    ],
)
def test_fp8_stops_where_plain_or_centred_cosines_are_too_low(found, message):
    with pytest.raises(BackendError, match=message):
        check_fp8(found, min_cosine=0.99, min_centred_median=0.9)


def test_fp8_goes_on_where_they_are_not():
    check_fp8(Agreement((0.99, 1.0)), 0.99, 0.9)
    check_fp8(Agreement((0.99, 1.0, 1.0), (0.1, 0.95, 0.96)), 0.99, 0.9)


@pytest.mark.parametrize(("n", "size"), [(1, 32), (5, 32), (1000, 32)])
def test_a_sample_spreads_from_the_first_row_to_the_last(n, size):
    sample = spread_sample(n, size)
    assert len(sample) == min(n, size)
    assert (sample[0], sample[-1]) == (0, n - 1)
    assert (np.diff(sample) > 0).all()
