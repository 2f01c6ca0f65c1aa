"""The evaluation's figures, as SVG data URIs; what each draws does not grow with the sample.

Importing this module imports matplotlib. Items weigh as in the rows `groups` of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virnuc_assets.classifier.figures import INK, OTHER, STYLE, VIRUS, shorten, svg_uri
from virnuc_assets.evaluation.evaluate import weights_of
from virnuc_assets.evaluation.metrics import calibration_bins, measure_calls

_COLOURS = ("#c2410c", "#2563a8", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be185d", "#475569")
_POINTS = 400
"""Points a curve is drawn through at most."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def curves(items: Mapping[str, pl.DataFrame]) -> str:
    """ROC and precision-recall curves of tables of items, which `measure_groups` takes, by name.

    Where a table has calls and no scores, its calls are a point.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.4), layout="constrained")
        roc, pr = figure.subplots(1, 2)
        for place, (name, table) in enumerate(items.items()):
            colour = _COLOURS[place % len(_COLOURS)]
            is_virus, weight = table["is_virus"].to_numpy(), weights_of(table)
            if table["score"].null_count():
                call = measure_calls(is_virus, table["call"].to_numpy(), weight)
                roc.plot(call.false_positive_rate, call.recall, "o", color=colour)
                pr.plot(call.recall, call.precision, "o", color=colour, label=shorten(name))
                continue
            score = table["score"].to_numpy()
            fpr, tpr, _ = roc_curve(is_virus, score, sample_weight=weight)
            precision, recall, _ = precision_recall_curve(is_virus, score, sample_weight=weight)
            roc.plot(*_thinned(fpr, tpr), color=colour, linewidth=1.4)
            thin_recall, thin_precision = _thinned(recall, precision)
            pr.step(
                thin_recall,
                thin_precision,
                color=colour,
                linewidth=1.4,
                where="post",
                label=shorten(name),
            )
        roc.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
        pr.axhline(0.5, color=INK, linewidth=0.7, linestyle=":")
        _square(roc, "false positive rate", "recall")
        _square(pr, "recall", "precision")
        legend = figure.legend(
            *pr.get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=4
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        return svg_uri(figure)


def reliability(items: Mapping[str, pl.DataFrame]) -> str:
    """Reliability diagrams (share of viruses against mean P(virus) by bin), one a table, by name.

    Below each is the share of the weight that lies in every bin.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.4), layout="constrained")
        panels = figure.subplots(
            2, len(items), sharex=True, squeeze=False, gridspec_kw={"height_ratios": [3, 1]}
        )
        for (name, table), above, below in zip(items.items(), *panels, strict=True):
            bins = calibration_bins(
                table["is_virus"].to_numpy(), table["score"].to_numpy(), weights_of(table)
            )
            total = sum(one.weight for one in bins)
            above.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
            above.plot(
                [one.mean_score for one in bins],
                [one.virus_share for one in bins],
                "o-",
                color=VIRUS,
                markersize=4,
                linewidth=1.2,
            )
            above.set_title(f"{name}   {len(table):,}", loc="left", fontsize=9)
            above.set(ylim=(-0.02, 1.02), ylabel="share of viruses")
            below.bar(
                [one.low for one in bins],
                [one.weight / total for one in bins],
                [one.high - one.low for one in bins],
                align="edge",
                color=OTHER,
            )
            below.set(xlim=(0, 1), xlabel="P(virus)", ylabel="share")
            above.grid()
            below.grid(axis="y")
        return svg_uri(figure)


def scores_by_group(items: pl.DataFrame) -> str:
    """P(virus) of every group: median, middle half, and the middle nine tenths.

    Args:
        items: what `measure_groups` takes.
    """
    groups = (
        items.group_by("is_virus", "group")
        .agg(
            pl.len(),
            *(pl.col("score").quantile(q, "linear").alias(str(q)) for q in _QUANTILES),
        )
        .sort("is_virus", "group", descending=[True, False])
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.9 + 0.3 * len(groups)), layout="constrained")
        axes = figure.subplots()
        for row, group in enumerate(groups.iter_rows(named=True)):
            low, first, median, third, high = (group[str(q)] for q in _QUANTILES)
            colour = VIRUS if group["is_virus"] else OTHER
            axes.plot([low, high], [row, row], color=colour, linewidth=1)
            axes.plot([first, third], [row, row], color=colour, linewidth=6, alpha=0.55)
            axes.plot(median, row, "o", color=colour, markersize=4.5)
        names = [f"{shorten(g)}   {n:,}" for g, n in groups.select("group", "len").iter_rows()]
        for label in axes.set_yticks(range(len(groups)), names):
            # A $ in a name is a letter, not the start of a formula.
            label.label1.set_parse_math(False)
        axes.axvline(0.5, color=INK, linewidth=0.7, linestyle=":")
        axes.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5), xlabel="P(virus) of a chunk")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        return svg_uri(figure)


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y, aspect="equal")
    axes.grid()


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_POINTS` points of a curve, evenly along it, its ends among them."""
    if len(x) <= _POINTS:
        return x, y
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    places = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
    places = np.unique(np.minimum(places, len(x) - 1))
    return x[places], y[places]
