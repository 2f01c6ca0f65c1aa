"""How far logits lean to virus, and how well that ranks frames."""

from __future__ import annotations

import numpy as np

from virnuc_assets.evaluation.metrics import balanced_weights


def margins(logits: np.ndarray) -> np.ndarray:
    """The logit of virus less that of others, (n,) float64, of logits (n, 2)."""
    return logits[:, 1].astype(np.float64) - logits[:, 0]


def balanced_auroc(margin: np.ndarray, groups: np.ndarray, is_virus: np.ndarray) -> float:
    """The AUROC of margins (n,), all groups of a class weighing the same (`balanced_weights`).

    Raises:
        ValueError: a class has no item.
    """
    from sklearn.metrics import roc_auc_score

    weight = balanced_weights(groups, is_virus)
    return float(roc_auc_score(is_virus, margin, sample_weight=weight))
