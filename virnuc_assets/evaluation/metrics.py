"""The metrics of a binary classifier, and the weights that balance groups.

Definitions are scikit-learn's where it has them. It is imported when it is first used: the shell
must answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15
_ALLOWED_FPR = 0.01
# A false positive rate is a sum of weights over a sum of weights; 0.01 may be missed by its last
# bits.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Metrics:
    """What scores say about labels; every metric lies in [0, 1], MCC in [-1, 1]."""

    n: int
    """Items measured, of both classes; not weighted."""
    n_virus: int
    """Items, of these, that are viral; not weighted."""
    auroc: float
    """Area under the receiver operating characteristic; ties count one half."""
    auprc: float
    """Average precision, the step-wise area under the precision-recall curve."""
    mcc: float
    """Matthews correlation coefficient of `score >= 0.5`; 0 where all have one call."""
    recall_at_1_percent_fpr: float
    """The highest share of viruses at or above a threshold that at most 1 % of others reach."""
    ece: float
    """Expected calibration error, see `expected_calibration_error`."""


@dataclass(frozen=True)
class CallMetrics:
    """What calls, virus or not, say about labels."""

    recall: float
    """Share of the viruses that are called virus."""
    false_positive_rate: float
    """Share of the others that are called virus."""
    precision: float
    """Share of those called virus that are; 0 where nothing is called virus."""
    mcc: float
    """Matthews correlation coefficient; 0 where all have one call."""


@dataclass(frozen=True)
class CalibrationBin:
    """The items whose scores lie in one bin of a reliability diagram."""

    low: float
    high: float
    weight: float
    """Sum of weights; the number of items where there are no weights."""
    mean_score: float
    virus_share: float


def measure(is_virus: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> Metrics:
    """Measure scores against labels.

    Args:
        is_virus: labels, shape (n,), bool.
        score: P(virus), shape (n,), floats in [0, 1].
        weight: weight of each item, shape (n,), finite and not negative; None: all equal.

    Raises:
        ValueError: an argument is not as said above, or a class has no item or no weight: none of
            the metrics would be defined.
    """
    from sklearn.metrics import (
        average_precision_score,
        matthews_corrcoef,
        roc_auc_score,
        roc_curve,
    )

    score, weights = _checked(is_virus, score, weight)
    # Without weights scikit-learn counts, which is exact.
    given = None if weight is None else weights
    fpr, tpr, _ = roc_curve(is_virus, score, sample_weight=given, drop_intermediate=False)
    return Metrics(
        n=len(is_virus),
        n_virus=int(is_virus.sum()),
        auroc=float(roc_auc_score(is_virus, score, sample_weight=given)),
        auprc=float(average_precision_score(is_virus, score, sample_weight=given)),
        mcc=float(matthews_corrcoef(is_virus, score >= 0.5, sample_weight=given)),
        recall_at_1_percent_fpr=float(tpr[fpr <= _ALLOWED_FPR + _ROUNDING].max()),
        ece=expected_calibration_error(is_virus, score, weight),
    )


def measure_calls(
    is_virus: np.ndarray, call: np.ndarray, weight: np.ndarray | None = None
) -> CallMetrics:
    """Measure calls, shape (n,), bool, against labels; other arguments as for `measure`.

    Raises:
        ValueError: as `measure`.
    """
    from sklearn.metrics import matthews_corrcoef, precision_score, recall_score

    _checked(is_virus, call, weight)
    return CallMetrics(
        recall=float(recall_score(is_virus, call, sample_weight=weight)),
        false_positive_rate=float(recall_score(~is_virus, call, sample_weight=weight)),
        precision=float(precision_score(is_virus, call, sample_weight=weight, zero_division=0)),
        mcc=float(matthews_corrcoef(is_virus, call, sample_weight=weight)),
    )


def calibration_bins(
    is_virus: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> list[CalibrationBin]:
    """The bins, of 15 equally wide ones, that hold any weight; arguments as for `measure`.

    Bin i holds scores in (i/15, (i+1)/15], the first one 0 too (Guo et al. 2017).
    """
    score, weights = _checked(is_virus, score, weight)
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    place = np.searchsorted(edges[1:-1], score, side="left")

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values, CALIBRATION_BINS)

    weight_of, score_of, virus_of = (
        total(weights),
        total(weights * score),
        total(weights * is_virus),
    )
    return [
        CalibrationBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            weight=float(weight_of[i]),
            mean_score=float(score_of[i] / weight_of[i]),
            virus_share=float(virus_of[i] / weight_of[i]),
        )
        for i in np.flatnonzero(weight_of)
    ]


def expected_calibration_error(
    is_virus: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """Mean distance of P(virus) from the share of viruses in 15 bins; arguments as for `measure`.

    Guo et al. 2017 (On Calibration of Modern Neural Networks), equation 3, of P(virus) in place of
    the confidence of the label: sum over the bins of a bin's share of the weight times
    |its mean P(virus) − its share of viruses|. scikit-learn's `calibration_curve` has no weights.
    """
    bins = calibration_bins(is_virus, score, weight)
    distance = sum(one.weight * abs(one.mean_score - one.virus_share) for one in bins)
    return distance / sum(one.weight for one in bins)


def balanced_weights(groups: np.ndarray, is_virus: np.ndarray) -> np.ndarray:
    """Weights that give every group its say, however many items it has.

    Every group of a class has the same total weight within its class, and both classes have the
    same total. A group with items of both classes counts in each as a group of its own.

    Args:
        groups: the group of each item, shape (n,), of any sortable type.
        is_virus: labels, shape (n,), bool.

    Returns:
        Weights, shape (n,), float64, with a mean of 1.

    Raises:
        ValueError: shapes differ, or a class has no item.
    """
    if groups.shape != is_virus.shape or is_virus.ndim != 1:
        raise ValueError(f"groups {groups.shape} and labels {is_virus.shape} must both be (n,)")
    _check_classes(is_virus, np.ones(len(is_virus)))
    weights = np.empty(len(is_virus), np.float64)
    for label in (False, True):
        mine = is_virus == label
        _, place, count = np.unique(groups[mine], return_inverse=True, return_counts=True)
        weights[mine] = len(is_virus) / 2 / len(count) / count[place]
    return weights


def _checked(
    is_virus: np.ndarray, score: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and weights (ones where none are given), both (n,) float64."""
    score = np.asarray(score, np.float64)
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    if is_virus.dtype != np.bool_ or is_virus.ndim != 1:
        raise ValueError(f"labels must be (n,) bool, and are {is_virus.shape} {is_virus.dtype}")
    if not score.shape == weights.shape == is_virus.shape:
        raise ValueError(
            f"labels {is_virus.shape}, scores {score.shape} and weights {weights.shape} differ"
        )
    # A NaN is in no interval.
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError("a score is not a number in [0, 1]")
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise ValueError("a weight is negative or not finite")
    _check_classes(is_virus, weights)
    return score, weights


def _check_classes(is_virus: np.ndarray, weights: np.ndarray) -> None:
    for label, name in ((True, "viral"), (False, "other")):
        if not weights[is_virus == label].sum() > 0:
            raise ValueError(f"no {name} item has a weight; both classes are needed")
