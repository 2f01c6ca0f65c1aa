"""How close embeddings are to the same sequences' embeddings in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Cosines of `sequences` embeddings to those in float32: least, first percentile, median."""

    sequences: int
    minimum: float
    p1: float
    median: float


def agreement(values: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare `values` (n, dim) with `reference` (n, dim), row by row."""
    a, b = values.astype(np.float64), reference.astype(np.float64)
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    minimum, p1, median = np.quantile(cosines, [0, 0.01, 0.5]).tolist()
    return Agreement(len(cosines), minimum, p1, median)


def spread_sample(n: int, size: int) -> np.ndarray:
    """At most `size` of n rows, evenly spread from the first to the last, int64."""
    return np.unique(np.linspace(0, n - 1, min(n, size)).round().astype(np.int64))
