"""How close embeddings are to the same sequences' embeddings in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Fewer have no centre worth the name: it would be made of the very embeddings it is taken off.
LEAST_FOR_A_CENTRE = 8
# Of an embedding's length: a distance from the centre that is float32's rounding.
_ALIKE = 1e-6


@dataclass(frozen=True)
class Agreement:
    """Cosines of some embeddings to those in float32; of several batches, their sum.

    Embeddings of unrelated sequences point much the same way, so that a plain cosine says little
    about what tells them apart. `centred` are the cosines after the mean of the batch's sample in
    float32 is taken off both; none for batches of fewer than 8. Summed up over batches, each has
    its own centre.
    """

    cosines: tuple[float, ...] = ()
    centred: tuple[float, ...] = ()

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.cosines + other.cosines, self.centred + other.centred)

    @property
    def minimum(self) -> float:
        """The least plain cosine."""
        return self.quantile(0)

    def quantile(self, share: float) -> float:
        """The plain cosine that `share` (0 to 1) of them do not exceed, interpolated.

        NaN if any is.
        """
        return float(np.quantile(self.cosines, share))

    @property
    def centred_median(self) -> float | None:
        """The median of the centred cosines, NaN if any is; None where there are none."""
        return float(np.median(self.centred)) if self.centred else None


def agreement(values: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare `values` (n, dim) with `reference` (n, dim), row by row."""
    a, b = values.astype(np.float64), reference.astype(np.float64)
    plain = tuple(_cosines(a, b).tolist())
    if len(b) < LEAST_FOR_A_CENTRE:
        return Agreement(plain)
    centre = b.mean(axis=0)
    # Where all sequences are alike nothing tells them apart, and there is nothing to lose.
    apart = np.linalg.norm(b - centre, axis=1) > _ALIKE * np.linalg.norm(b, axis=1)
    return Agreement(plain, tuple(_cosines(a[apart] - centre, b[apart] - centre).tolist()))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def spread_sample(n: int, size: int) -> np.ndarray:
    """At most `size` of n rows, evenly spread from the first to the last, int64."""
    return np.unique(np.linspace(0, n - 1, min(n, size)).round().astype(np.int64))
