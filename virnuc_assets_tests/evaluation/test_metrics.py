"""Every metric against its definition in a few plain lines."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_assets.evaluation.metrics import (
    balanced_weights,
    calibration_bins,
    expected_calibration_error,
    measure,
)

# Few distinct scores, so that ties are common, and some in the middle of nowhere.
score = st.one_of(
    st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 1.0]), st.floats(0, 1, allow_subnormal=False)
)
weight = st.sampled_from([0.0, 0.25, 1.0, 3.0])
item = st.tuples(st.booleans(), score, weight)
items = st.lists(item, min_size=2, max_size=60).filter(
    lambda rows: all(any(w > 0 and v == virus for v, _, w in rows) for virus in (True, False))
)


def arrays(rows: list[tuple[bool, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    virus, scores, weights = zip(*rows, strict=True)
    return np.array(virus), np.array(scores), np.array(weights)


def plain_auroc(rows: Any) -> float:
    pairs = [
        (a * b, 1.0 if p > q else 0.5 if p == q else 0.0)
        for v, p, a in rows
        for u, q, b in rows
        if v and not u
    ]
    return sum(w * won for w, won in pairs) / sum(w for w, _ in pairs)


def rates(rows: Any, threshold: float) -> tuple[float, float, float]:
    """Weighted (recall, false positive rate, precision) of calls at or above a threshold."""
    tp = sum(w for v, p, w in rows if v and p >= threshold)
    fp = sum(w for v, p, w in rows if not v and p >= threshold)
    virus = sum(w for v, _, w in rows if v)
    other = sum(w for v, _, w in rows if not v)
    return tp / virus, fp / other, tp / (tp + fp) if tp + fp else 1.0


def plain_auprc(rows: Any) -> float:
    area, recall_before = 0.0, 0.0
    for threshold in sorted({p for _, p, _ in rows}, reverse=True):
        recall, _, precision = rates(rows, threshold)
        area += (recall - recall_before) * precision
        recall_before = recall
    return area


def plain_recall(rows: Any) -> float:
    thresholds = [2.0, *(p for _, p, _ in rows)]
    return max(r for r, fpr, _ in (rates(rows, t) for t in thresholds) if fpr <= 0.01)


def plain_mcc(rows: Any) -> float:
    tp = sum(w for v, p, w in rows if v and p >= 0.5)
    fn = sum(w for v, p, w in rows if v and p < 0.5)
    fp = sum(w for v, p, w in rows if not v and p >= 0.5)
    tn = sum(w for v, p, w in rows if not v and p < 0.5)
    below = sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / below if below else 0.0


def plain_ece(rows: Any) -> float:
    error = 0.0
    edges = np.linspace(0, 1, 16)
    for i, (low, high) in enumerate(pairwise(edges)):
        mine = [row for row in rows if low < row[1] <= high or (i == 0 and row[1] == 0)]
        here = sum(w for _, _, w in mine)
        if here:
            confidence = sum(w * p for _, p, w in mine) / here
            virus = sum(w for v, _, w in mine if v) / here
            error += here * abs(confidence - virus)
    return error / sum(w for _, _, w in rows)


@settings(deadline=None)
@given(items)
def test_metrics_are_what_their_definitions_say(rows: Any) -> None:
    is_virus, scores, weights = arrays(rows)
    found = measure(is_virus, scores, weights)
    assert (found.n, found.n_virus) == (len(rows), sum(v for v, _, _ in rows))
    assert found.auroc == pytest.approx(plain_auroc(rows), abs=1e-9)
    assert found.auprc == pytest.approx(plain_auprc(rows), abs=1e-9)
    assert found.mcc == pytest.approx(plain_mcc(rows), abs=1e-9)
    assert found.recall_at_1_percent_fpr == pytest.approx(plain_recall(rows), abs=1e-9)
    assert found.ece == pytest.approx(plain_ece(rows), abs=1e-9)


@settings(deadline=None)
@given(items)
def test_no_weights_are_equal_weights(rows: Any) -> None:
    is_virus, scores, _ = arrays(rows)
    plain = measure(is_virus, scores)
    weighted = measure(is_virus, scores, np.full(len(rows), 3.0))
    assert vars(weighted) == pytest.approx(vars(plain), abs=1e-12)


@settings(deadline=None)
@given(items)
def test_a_whole_weight_is_that_many_copies(rows: Any) -> None:
    copies = [1 if w < 1 else int(w) for _, _, w in rows]
    is_virus, scores, _ = arrays(rows)
    weighted = vars(measure(is_virus, scores, np.array(copies)))
    repeated = vars(measure(np.repeat(is_virus, copies), np.repeat(scores, copies)))
    for name in set(weighted) - {"n", "n_virus"}:
        assert weighted[name] == pytest.approx(repeated[name], abs=1e-9), name


def test_one_of_a_hundred_others_is_one_percent() -> None:
    # 0.9 is reached by one other of 100, 0.8 by two.
    is_virus = np.array([True] * 4 + [False] * 100)
    scores = np.array([0.95, 0.9, 0.85, 0.1, 0.9, 0.8] + [0.2] * 98)
    assert measure(is_virus, scores).recall_at_1_percent_fpr == 0.75
    tenths = measure(is_virus, scores, np.full(104, 0.1))
    assert tenths.recall_at_1_percent_fpr == pytest.approx(0.75)


def test_calibrated_scores_have_no_calibration_error() -> None:
    is_virus = np.array([True, False, False, False, True, True, True, False])
    scores = np.array([0.25] * 4 + [0.75] * 4)
    assert expected_calibration_error(is_virus, scores) == 0
    assert expected_calibration_error(~is_virus, scores) == 0.5


def test_bins_hold_their_upper_edge_and_the_first_one_zero() -> None:
    is_virus = np.array([True, False, True, False])
    bins = calibration_bins(is_virus, np.array([0.0, 1 / 15, 0.9, 1.0]))
    assert [(round(one.low * 15), one.weight) for one in bins] == [(0, 2), (13, 1), (14, 1)]
    assert [one.virus_share for one in bins] == [0.5, 1, 0]


def test_float32_scores_are_taken_as_they_are() -> None:
    is_virus = np.array([True, False])
    assert measure(is_virus, np.array([0.5, 0.1], np.float32)).mcc == 1


@pytest.mark.parametrize(
    ("is_virus", "scores", "weights", "why"),
    [
        ([True, True], [0.1, 0.2], None, "no other item"),
        ([False, False], [0.1, 0.2], None, "no viral item"),
        ([], [], None, "no viral item"),
        ([True, False], [0.1, 0.2], [0.0, 1.0], "no viral item"),
        ([True, False], [0.1, np.nan], None, "score is not a number"),
        ([True, False], [0.1, 1.1], None, "score is not a number"),
        ([True, False], [0.1, 0.2], [1.0, -1.0], "negative"),
        ([True, False], [0.1, 0.2], [1.0, np.nan], "not finite"),
        ([True, False], [0.1], None, "differ"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    is_virus: Any, scores: Any, weights: Any, why: str
) -> None:
    given_weights = None if weights is None else np.array(weights)
    with pytest.raises(ValueError, match=why):
        measure(np.array(is_virus, bool), np.array(scores), given_weights)


def test_labels_that_are_not_boolean_are_refused() -> None:
    with pytest.raises(ValueError, match="bool"):
        measure(np.array([1, 0]), np.array([0.1, 0.2]))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=2, max_size=40))
def test_groups_and_classes_weigh_the_same(rows: Any) -> None:
    groups = np.array([group for group, _ in rows])
    is_virus = np.array([virus for _, virus in rows])
    if is_virus.all() or not is_virus.any():
        with pytest.raises(ValueError, match="both classes"):
            balanced_weights(groups, is_virus)
        return
    weights = balanced_weights(groups, is_virus)
    assert weights.mean() == pytest.approx(1)
    for virus in (True, False):
        mine = is_virus == virus
        assert weights[mine].sum() == pytest.approx(len(rows) / 2)
        of_groups = [weights[mine & (groups == group)].sum() for group in set(groups[mine])]
        assert of_groups == pytest.approx([of_groups[0]] * len(of_groups))
        # Within a group of a class all items are alike.
        for group in set(groups[mine]):
            alike = weights[mine & (groups == group)]
            assert alike.min() == alike.max()
