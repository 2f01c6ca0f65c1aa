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
from matplotlib.ticker import MaxNLocator

from virnuc_assets.classifier.report_tables import SCORE_BINS
from virnuc_assets.classifier.words import as_bases

FRAMES = ("F1", "F2", "F3", "R1", "R2", "R3")
VIRUS, OTHER, UNCALLED = "#c2410c", "#2563a8", "#b8bec8"
INK, _GRID = "#334155", "#e2e8f0"
_SCORE_COLOURS = LinearSegmentedColormap.from_list("call", [OTHER, "#f4f1ea", VIRUS])
_WIDTH = 7.8
_CELLS = 300
"""Of a strip at most: as many as are told apart on a screen."""
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


def scores_by_frame(histogram: pl.DataFrame) -> str:
    """Histograms of P(virus), one for each of the six frames, as an SVG data URI.

    Args:
        histogram: what `report_tables.frame_histogram` gives.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        for name, axes in zip(FRAMES, panels.flat, strict=True):
            counts = _counts(histogram.filter(pl.col("frame") == name))
            _draw_scores(axes, counts)
            axes.set_title(f"{name}   {counts.sum():,} frames", loc="left", fontsize=9)
        figure.supxlabel("P(virus) of a frame", fontsize=9)
        figure.supylabel("frames", fontsize=9)
        return svg_uri(figure)


def records(table: pl.DataFrame) -> str:
    """Scores of the called records, and lengths of all, stacked by call, as an SVG data URI.

    Args:
        table: length (bases), is_virus and score of every record; the last two may be null.
    """
    lengths = table["length"].to_numpy()
    low, high = lengths.min(), max(lengths.max(), lengths.min() + 1)
    groups = (
        ("virus", VIRUS, pl.col("is_virus")),
        ("other", OTHER, ~pl.col("is_virus")),
        ("no call", UNCALLED, pl.col("is_virus").is_null()),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, column, bins, shown in (
            (left, "score", np.linspace(0, 1, SCORE_BINS + 1), groups[:2]),
            (right, "length", np.geomspace(low, high, 31), groups),
        ):
            below = np.zeros(len(bins) - 1, np.int64)
            for label, colour, rows in shown:
                counts, _ = np.histogram(table.filter(rows)[column].to_numpy(), bins)
                above = below + counts
                axes.stairs(above, bins, baseline=below, fill=True, color=colour, label=label)
                below = above
            axes.set(ylabel="records")
            _count_on(axes)
        left.set(xlabel="score of a record", xlim=(0, 1))
        right.set(xscale="log", xlabel="length of a record, bases")
        right.legend(frameon=False)
        return svg_uri(figure)


def calls_along(contigs: pl.DataFrame, chunks: pl.DataFrame) -> str:
    """The chunks of each of `contigs` in their place, coloured by score, as an SVG data URI.

    Every contig is as wide as the figure. Chunks overlap by a few bases; each is drawn as an equal
    part of its contig, or several together as their mean. Those without a scored frame are grey.

    Args:
        contigs: ordinal, id, length (bases), n_chunks and score of records.
        chunks: what `report_tables.chunk_scores` gives of them.
    """
    rows = len(contigs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.34 * rows), layout="constrained")
        axes = figure.subplots()
        for row, contig in enumerate(contigs.iter_rows(named=True)):
            mine = chunks.filter(pl.col("record") == contig["ordinal"])
            scores = np.full(contig["n_chunks"], np.nan)
            scores[mine["chunk"].to_numpy() - 1] = mine["score"].to_numpy()
            axes.imshow(
                np.ma.masked_invalid(as_cells(scores, _CELLS))[None, :],
                extent=(0, 100, row + 0.36, row - 0.36),
                cmap=_SCORE_COLOURS.with_extremes(bad=UNCALLED),
                norm=Normalize(0, 1),
                aspect="auto",
                interpolation="nearest",
            )
            score = "no call" if contig["score"] is None else f"{contig['score']:.3f}"
            said = f"{as_bases(contig['length'])}, {score}"
            axes.text(101, row, said, va="center", fontsize=8)
        labels = axes.set_yticks(range(rows), [shorten(name) for name in contigs["id"]])
        for label in labels:
            # A $ in an id is a letter, not the start of a formula.
            label.label1.set_parse_math(False)
        axes.set(xlim=(0, 100), ylim=(rows - 0.5, -0.5), xlabel="position, % of the record")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        scale = ScalarMappable(Normalize(0, 1), _SCORE_COLOURS)
        figure.colorbar(scale, ax=axes, label="score of a chunk", fraction=0.03, pad=0.01)
        return svg_uri(figure)


def as_cells(scores: np.ndarray, most: int) -> np.ndarray:
    """`scores` (n,), or, where n is more than `most`, the means of as many equal parts of it.

    NaN, which is no score, does not count; a part without a score is NaN.
    """
    if len(scores) <= most:
        return scores
    starts = np.linspace(0, len(scores), most + 1).astype(np.int64)[:-1]
    known = ~np.isnan(scores)
    n = np.add.reduceat(known.astype(np.int64), starts)
    sums = np.add.reduceat(np.where(known, scores, 0), starts)
    return np.where(n > 0, sums / np.maximum(n, 1), np.nan)


def score_overview(histogram: pl.DataFrame, model: str) -> bytes:
    """A small histogram of P(virus) over all frames, as PNG bytes, with the model's label.

    Args:
        histogram: what `report_tables.frame_histogram` gives.
        model: the label.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.4), layout="constrained")
        axes = figure.subplots()
        _draw_scores(axes, _counts(histogram))
        axes.set(xlabel="P(virus) of a frame", ylabel="frames")
        axes.set_title(f"model: {shorten(model, 60)}", loc="left", fontsize=8, parse_math=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def shorten(name: str, letters: int = 28) -> str:
    """`name`, or its beginning and an ellipsis where it is longer than `letters`."""
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _counts(histogram: pl.DataFrame) -> np.ndarray:
    counts = np.zeros(SCORE_BINS, np.int64)
    np.add.at(counts, histogram["bin"].to_numpy(), histogram["n"].to_numpy())
    return counts


def _draw_scores(axes: mpl.axes.Axes, counts: np.ndarray) -> None:
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    half = SCORE_BINS // 2
    axes.stairs(counts[:half], edges[: half + 1], fill=True, color=OTHER)
    axes.stairs(counts[half:], edges[half:], fill=True, color=VIRUS)
    axes.set_xlim(0, 1)
    _count_on(axes)


def _count_on(axes: mpl.axes.Axes) -> None:
    """Whole numbers on the axis that counts, and lines to read them by."""
    axes.yaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    axes.grid(axis="y")


def svg_uri(figure: Figure) -> str:
    """A figure as an SVG data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
