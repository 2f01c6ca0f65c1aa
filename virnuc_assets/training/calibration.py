"""Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from virnuc_assets.training.margins import margins

COLDEST, HOTTEST = 0.1, 100.0
_HALVINGS = 60


def fit_temperature(logits: np.ndarray, is_virus: np.ndarray, weight: np.ndarray) -> float:
    """The temperature that makes scores most likely, between 0.1 and 100.

    With two classes the weighted log likelihood of softmax(logits / T) is concave in 1/T, so its
    slope is followed to zero by halving. Logits that separate the classes have no optimum and get
    the lowest temperature.

    Args:
        logits: of others and virus, (n, 2), finite.
        is_virus: labels, (n,) bool.
        weight: weight of each, (n,), not negative.
    """
    margin = margins(logits)

    def slope(inverse: float) -> float:
        # 1 / (1 + exp(-x)) without overflow.
        score = (1 + np.tanh(inverse * margin / 2)) / 2
        return float(np.sum(weight * margin * (is_virus - score)))

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) >= 0 else (low, middle)
    return 1 / ((low * high) ** 0.5)


def with_temperature(
    weights: Mapping[str, np.ndarray], temperature: float
) -> dict[str, np.ndarray]:
    """The tensors of a head whose logits are divided by `temperature`."""
    folded = dict(weights)
    for name in ("output_layer.weight", "output_layer.bias"):
        folded[name] = (weights[name] / np.float32(temperature)).astype(np.float32)
    return folded
