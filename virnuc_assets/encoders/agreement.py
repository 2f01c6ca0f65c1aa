"""How close embeddings are to the same sequences' embeddings in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Cosines of some embeddings to those in float32; of several batches, their sum."""

    cosines: tuple[float, ...] = ()

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.cosines + other.cosines)

    @property
    def minimum(self) -> float:
        """The least of them."""
        return self.quantile(0)

    def quantile(self, share: float) -> float:
        """The value that `share` (0 to 1) of them do not exceed, interpolated; NaN if any is."""
        return float(np.quantile(self.cosines, share))


def agreement(values: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare `values` (n, dim) with `reference` (n, dim), row by row."""
    a, b = values.astype(np.float64), reference.astype(np.float64)
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return Agreement(tuple(cosines.tolist()))


def spread_sample(n: int, size: int) -> np.ndarray:
    """At most `size` of n rows, evenly spread from the first to the last, int64."""
    return np.unique(np.linspace(0, n - 1, min(n, size)).round().astype(np.int64))
