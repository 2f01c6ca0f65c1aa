"""The temperature is the most likely one, and mends scores that are too sure."""

import numpy as np
import pytest

from virnuc_assets.evaluation.metrics import expected_calibration_error
from virnuc_assets.training.calibration import COLDEST, fit_temperature, with_temperature


def over_confident(n=20_000, factor=4.0, seed=0):
    """Logits that are `factor` times what the labels were drawn by."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, n)
    is_virus = rng.random(n) < 1 / (1 + np.exp(-margin))
    logits = np.stack([np.zeros(n), factor * margin], axis=1) + rng.normal(size=(n, 1))
    return logits, is_virus


def score(logits, temperature=1.0):
    return 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]) / temperature))


def test_scores_that_are_too_sure_are_calibrated():
    logits, is_virus = over_confident()
    temperature = fit_temperature(logits, is_virus, np.ones(len(logits)))
    assert temperature == pytest.approx(4.0, rel=0.05)
    before = expected_calibration_error(is_virus, score(logits))
    after = expected_calibration_error(is_virus, score(logits, temperature))
    assert before > 0.1
    assert after < 0.015


def test_no_other_temperature_is_more_likely():
    logits, is_virus = over_confident(500, 2.5, seed=1)
    weight = np.random.default_rng(2).random(500)

    def loss(temperature):
        p = np.where(is_virus, score(logits, temperature), 1 - score(logits, temperature))
        return -(weight * np.log(p)).sum()

    found = fit_temperature(logits, is_virus, weight)
    assert loss(found) <= min(loss(t) for t in np.geomspace(0.5, 20, 2000)) + 1e-9


def test_separable_scores_get_the_lowest_temperature():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = fit_temperature(logits, np.array([False, True]), np.ones(2))
    assert found == pytest.approx(COLDEST)


def test_the_temperature_goes_into_the_output_layer():
    weights = {
        "output_layer.weight": np.array([[1, 2], [3, 4]], np.float32),
        "output_layer.bias": np.array([1, -1], np.float32),
        "bn1.bias": np.array([5, 6], np.float32),
    }
    folded = with_temperature(weights, 2.0)
    np.testing.assert_array_equal(folded["output_layer.weight"], [[0.5, 1], [1.5, 2]])
    np.testing.assert_array_equal(folded["output_layer.bias"], [0.5, -0.5])
    np.testing.assert_array_equal(folded["bn1.bias"], [5, 6])
