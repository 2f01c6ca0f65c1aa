"""How much more genomes would help: the validation AUROC of heads trained on some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from virnuc_assets.training.features import Features
from virnuc_assets.training.head_training import TrainedHead, TrainingSettings, train_head

SHARES = (0.1, 0.3)


@dataclass(frozen=True)
class CurvePoint:
    """A head trained on a share of the training genomes."""

    share: float
    genomes: int
    frames: int
    validation_auroc: float


def learning_curve(
    features: Features,
    training: np.ndarray,
    validation: np.ndarray,
    whole: TrainedHead,
    settings: TrainingSettings,
    device: str,
    tell: Callable[[str], None],
) -> list[CurvePoint]:
    """Train heads on 10 % and 30 % of the genomes of each class and group, at least one of each.

    The smaller share's genomes are among the larger one's. `whole`, trained on all with the same
    `settings`, is the last point. Arguments are those of `train_head`.
    """
    points = []
    for share in SHARES:
        rows = some_genomes(features, training, share, settings.seed)
        tell(f"learning curve: {share:.0%} of the genomes, {len(rows)} frames")
        head = train_head(features, rows, validation, settings, device, tell)
        points.append(_point(features, share, rows, head))
    return [*points, _point(features, 1.0, training, whole)]


def some_genomes(features: Features, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Those of `rows` that are of a share of the genomes of each class and group, rounded up."""
    frames = features.frames
    labels = np.stack([frames.is_virus[rows], frames.group[rows], frames.genome[rows]], axis=1)
    pairs, of_row = np.unique(labels, axis=0, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(pairs))
    chosen = np.zeros(len(pairs), bool)
    for stratum in np.unique(pairs[:, :2], axis=0):
        mine = shuffled[(pairs[shuffled, :2] == stratum).all(axis=1)]
        chosen[mine[: int(np.ceil(share * len(mine)))]] = True
    return rows[chosen[of_row]]


def _point(features: Features, share: float, rows: np.ndarray, head: TrainedHead) -> CurvePoint:
    return CurvePoint(
        share=share,
        genomes=len(np.unique(features.frames.genome[rows])),
        frames=len(rows),
        validation_auroc=head.epochs[head.best_epoch - 1].validation_auroc,
    )
