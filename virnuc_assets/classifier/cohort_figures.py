"""The cohort's figure: where each sample lies. Importing this module imports matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from virnuc_assets.classifier.cohort import COMPARED, modified_z, scale
from virnuc_assets.classifier.figures import INK, OTHER, STYLE, VIRUS, shorten, svg_uri

TITLES: Mapping[str, str] = {
    "records": "records",
    "viral_share": "viral, % of called records",
    "not_callable_share": "without a call, % of records",
    "unique_share": "unique, % of sequences",
    "median_score": "median score",
}
_MOST_DRAWN = 300
_NAMED = 3
"""Samples that stand out and are named, a figure at most."""


def strips_svg(table: pl.DataFrame) -> str:
    """`strips` as an SVG data URI."""
    with mpl.rc_context(STYLE):
        return svg_uri(_strips(table, (7.8, 4.8)))


def strips_png(table: pl.DataFrame) -> bytes:
    """`strips` as a small PNG."""
    with mpl.rc_context(STYLE):
        buffer = io.BytesIO()
        _strips(table, (6.4, 4.4)).savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def _strips(table: pl.DataFrame, size: tuple[float, float]) -> Figure:
    """One strip a figure with a dot a sample; those that stand out are orange, some named."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(len(COMPARED), 1)
    for name, axes in zip(COMPARED, panels, strict=True):
        _strip(axes, name, table.drop_nulls(name))
    return figure


def _strip(axes: Axes, name: str, table: pl.DataFrame) -> None:
    values = table[name].to_numpy() * (100 if name.endswith("_share") else 1)
    # Spread by the golden ratio: dots of the same value do not hide each other.
    heights = (np.arange(len(table)) * 0.618034) % 1
    out = table["stands_out"].fill_null("").str.split(", ").list.contains(name).to_numpy()
    if name == "records":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.plot(
        values[~out],
        heights[~out],
        "o",
        color=OTHER,
        alpha=0.5,
        markersize=3.5,
        mew=0,
        # Thousands of dots take more room as drawings than as a picture.
        rasterized=len(values) > _MOST_DRAWN,
    )
    axes.plot(values[out], heights[out], "o", color=VIRUS, markersize=5, mew=0)
    if len(values):
        axes.axvline(float(np.median(values)), color=INK, linewidth=0.8, linestyle=":")
    for place in _farthest(name, table, out):
        side = 1 if values[place] > np.median(values) else -1
        axes.annotate(
            shorten(table["sample"][int(place)], 20),
            (values[place], heights[place]),
            (6 * side, 0),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=7,
            parse_math=False,
        )
    if name == "median_score":
        axes.set_xlim(-0.02, 1.02)
    elif name != "records":
        axes.set_xlim(-2, 102)
    axes.set(ylim=(-0.2, 1.2), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_title(TITLES[name], loc="left", fontsize=8)
    axes.tick_params(labelsize=7)


def _farthest(name: str, table: pl.DataFrame, out: np.ndarray) -> np.ndarray:
    """Places of the samples that are named."""
    places = np.flatnonzero(out)
    scaled = scale(name, table[name].to_numpy())
    away = np.abs(modified_z(scaled[places], scaled))
    return places[np.argsort(-away, kind="stable")[:_NAMED]]
