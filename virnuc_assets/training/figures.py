"""Figures of a head's training, as SVG data URIs. Importing this module imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from virnuc_assets.classifier.figures import OTHER, STYLE, VIRUS, svg_uri
from virnuc_assets.training.head_training import TrainedHead
from virnuc_assets.training.learning_curve import CurvePoint


def training_curve(head: TrainedHead) -> str:
    """Loss and validation AUROC by epoch; the epoch that was kept is marked."""
    epochs = range(1, len(head.epochs) + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 3), layout="constrained")
        loss, auroc = figure.subplots(1, 2)
        loss.plot(epochs, [epoch.loss for epoch in head.epochs], color=OTHER)
        loss.set(xlabel="epoch", ylabel="loss of the drawn frames")
        auroc.plot(epochs, [epoch.validation_auroc for epoch in head.epochs], color=VIRUS)
        auroc.set(xlabel="epoch", ylabel="validation AUROC")
        for axes in (loss, auroc):
            axes.axvline(head.best_epoch, color="black", linewidth=0.8, linestyle=":")
            axes.grid(axis="y")
        return svg_uri(figure)


def learning_curve_figure(points: Sequence[CurvePoint]) -> str:
    """Validation AUROC by the number of training genomes, on a logarithmic axis."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            [point.genomes for point in points],
            [point.validation_auroc for point in points],
            marker="o",
            color=VIRUS,
        )
        axes.set(xscale="log", xlabel="training genomes", ylabel="validation AUROC")
        axes.grid(axis="y")
        return svg_uri(figure)
