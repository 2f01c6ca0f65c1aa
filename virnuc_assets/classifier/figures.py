"""The report's figures. Importing this module imports matplotlib; pyplot's global state stays out.

Every figure is drawn from counts or from few rows, so its size does not grow with the sample.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

FRAMES = ("F1", "F2", "F3", "R1", "R2", "R3")
VIRUS, OTHER, UNCALLED = "#c2410c", "#2563a8", "#b8bec8"
INK, _GRID = "#334155", "#e2e8f0"
_SCORE_BINS = np.linspace(0, 1, 41)
_SCORE_COLOURS = LinearSegmentedColormap.from_list("call", [OTHER, "#f4f1ea", VIRUS])
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    # Ids of elements are random without it, and the same results must give the same page.
    "svg.hashsalt": "virnuc",
}


def scores_by_frame(frames: pl.DataFrame) -> str:
    """Histograms of P(virus), one for each of the six frames, as an SVG data URI."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        for name, axes in zip(FRAMES, panels.flat, strict=True):
            scores = frames.filter(pl.col("frame") == name)["score_virus"].to_numpy()
            _draw_scores(axes, scores)
            axes.set_title(f"{name}   {len(scores):,} frames", loc="left", fontsize=9)
        figure.supxlabel("P(virus) of a frame", fontsize=9)
        figure.supylabel("frames", fontsize=9)
        return svg_uri(figure)


def record_lengths(records: pl.DataFrame) -> str:
    """Histogram of record lengths on a logarithmic axis, stacked by call, as an SVG data URI."""
    lengths = records["length"].to_numpy()
    low, high = lengths.min(), max(lengths.max(), lengths.min() + 1)
    bins = np.geomspace(low, high, 31)
    groups = (
        ("virus", VIRUS, pl.col("is_virus")),
        ("other", OTHER, ~pl.col("is_virus")),
        ("no call", UNCALLED, pl.col("is_virus").is_null()),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes = figure.subplots()
        axes.hist(
            [records.filter(rows)["length"].to_numpy() for _, _, rows in groups],
            bins=list(bins),
            stacked=True,
            color=[colour for _, colour, _ in groups],
            label=[label for label, _, _ in groups],
        )
        axes.set(xscale="log", xlabel="length of a record, bases", ylabel="records")
        axes.grid(axis="y")
        axes.legend(frameon=False)
        return svg_uri(figure)


def calls_along(contigs: pl.DataFrame, chunks: pl.DataFrame) -> str:
    """The chunks of each of `contigs` in their place, coloured by score, as an SVG data URI.

    Chunks overlap by a few bases; each is drawn as an equal part of its contig. Chunks without a
    scored frame are grey.
    """
    rows = len(contigs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.9 + 0.42 * rows), layout="constrained")
        axes = figure.subplots()
        for row, contig in enumerate(contigs.iter_rows(named=True)):
            scores = np.full(contig["n_chunks"], np.nan, np.float32)
            mine = chunks.filter(pl.col("record") == contig["ordinal"])
            scores[mine["chunk"].to_numpy() - 1] = mine["score_virus"].to_numpy()
            axes.imshow(
                np.ma.masked_invalid(scores)[None, :],
                extent=(0, contig["length"] / 1000, row + 0.36, row - 0.36),
                cmap=_SCORE_COLOURS.with_extremes(bad=UNCALLED),
                norm=Normalize(0, 1),
                aspect="auto",
                interpolation="nearest",
            )
        labels = axes.set_yticks(range(rows), [shorten(name) for name in contigs["id"]])
        for label in labels:
            # A $ in an id is a letter, not the start of a formula.
            label.label1.set_parse_math(False)
        axes.set(
            xlim=(0, max(contigs["length"].to_list()) / 1000),
            ylim=(rows - 0.5, -0.5),
            xlabel="position, kilobases",
        )
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        scale = ScalarMappable(Normalize(0, 1), _SCORE_COLOURS)
        figure.colorbar(scale, ax=axes, label="P(virus)", fraction=0.03, pad=0.01)
        return svg_uri(figure)


def score_overview(frames: pl.DataFrame, model: str) -> bytes:
    """A small histogram of P(virus) over all frames, as PNG bytes, with the model's label."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.4), layout="constrained")
        axes = figure.subplots()
        _draw_scores(axes, frames["score_virus"].to_numpy())
        axes.set(xlabel="P(virus) of a frame", ylabel="frames")
        axes.set_title(f"model: {shorten(model, 60)}", loc="left", fontsize=8, parse_math=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def shorten(name: str, letters: int = 28) -> str:
    """`name`, or its beginning and an ellipsis where it is longer than `letters`."""
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _draw_scores(axes: mpl.axes.Axes, scores: np.ndarray) -> None:
    counts, edges = np.histogram(scores, _SCORE_BINS)
    colours = [VIRUS if edge >= 0.5 else OTHER for edge in edges[:-1]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
    axes.set_xlim(0, 1)
    axes.grid(axis="y")


def svg_uri(figure: Figure) -> str:
    """A figure as an SVG data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
