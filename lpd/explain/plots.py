"""Pictures of figures of merit: how prototypes share their class, and how alike they are. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lpd.classes import ClassScheme, Rgb
from lpd.explain.array_measures import Doubles
from lpd.explain.matching import Matching
from lpd.explain.slide_figures import SlideFigures

#: Inches.
_PANEL, _GAP = 1.9, 0.7
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.6, 0.15, 0.55, 0.3
_MOST_NUMBERS, _MOST_TICKS = 10, 24
_SMALL = 7
_MAP = "RdBu_r"


def plot_figures(results: Sequence[tuple[SlideFigures, ClassScheme]]) -> Figure:
    """For each result, one below the other, and each class: usage as bars, correlations of the maps as a matrix.

    Args:
        results: figures and classes, whose colours the bars have.

    Returns:
        To be saved by ``savefig``; drawn without a screen.
    """
    columns = max(len(found.classes) for found, _ in results)
    figure, axes = _sheet(2 * len(results), columns)
    for row, (found, scheme) in enumerate(results):
        _headline(axes[2 * row][0], f"{found.checkpoint_name}, {found.slide_name}")
        for column in range(columns):
            bars, matrix = axes[2 * row][column], axes[2 * row + 1][column]
            if column >= len(found.classes):
                bars.axis("off")
                matrix.axis("off")
                continue
            own = found.classes[column]
            _bars(bars, own.code, own.usage, scheme.classes[column].color, own.dead)
            _matrix(matrix, own.correlations, [str(k + 1) for k in range(found.per_class)])
            matrix.set_title("correlation of maps", fontsize=_SMALL, loc="left")
    return figure


def plot_data_figures(results: Sequence[tuple[str, Mapping[str, Any], ClassScheme]]) -> Figure:
    """The same of what :func:`lpd.explain.figures.prototype_figures` says of data sets.

    Args:
        results: what stands above, figures, classes.
    """
    columns = max(scheme.count for _, _, scheme in results)
    figure, axes = _sheet(2 * len(results), columns)
    for row, (name, found, scheme) in enumerate(results):
        upper, lower = axes[2 * row], axes[2 * row + 1]
        _headline(upper[0], name)
        for bars, matrix, own in zip(upper, lower, scheme.classes, strict=False):
            said = found["classes"][own.code]
            _bars(bars, own.code, said["usage"], own.color, said["dead"])
            table = np.array(said["correlations"], dtype=np.float64)  # None becomes NaN
            _matrix(matrix, table, [str(k + 1) for k in range(len(table))])
            matrix.set_title("correlation of maps", fontsize=_SMALL, loc="left")
        for unused in (*upper[scheme.count :], *lower[scheme.count :]):
            unused.axis("off")
    return figure


def plot_matching(found: Matching, left: Sequence[str], right: Sequence[str]) -> Figure:
    """Correlations of every prototype of one result with every one of another; matched ones are framed.

    Args:
        found: the matching.
        left, right: what the prototypes are called, rows and columns.
    """
    side = 1.2 + 0.28 * max(len(left), len(right), 8)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    _matrix(axes, found.similarity, left, right)
    for pair in found.pairs:
        axes.add_patch(Rectangle((pair.right - 0.5, pair.left - 0.5), 1, 1, fill=False, lw=2, ec="black"))
    axes.set_ylabel("left", fontsize=_SMALL)
    axes.set_xlabel("right", fontsize=_SMALL)
    axes.set_title("Correlation of maps; frames: matched", fontsize=_SMALL + 1)
    return figure


def _sheet(rows: int, columns: int) -> tuple[Figure, Any]:
    width = _LEFT + columns * _PANEL + (columns - 1) * _GAP + _RIGHT
    height = _TOP + rows * _PANEL + (rows - 1) * _GAP + _BOTTOM
    figure = Figure(figsize=(width, height))
    places = {
        "left": _LEFT / width,
        "right": 1 - _RIGHT / width,
        "top": 1 - _TOP / height,
        "bottom": _BOTTOM / height,
        "wspace": _GAP / _PANEL,
        "hspace": _GAP / _PANEL,
    }
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)


def _headline(axes: Axes, text: str) -> None:
    """Above a row's first axes, as long as it is: nothing is moved to make room for it."""
    axes.annotate(
        text,
        (0, 1),
        xytext=(0, 20),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=_SMALL + 2,
        annotation_clip=False,
        parse_math=False,
    )


def _bars(axes: Axes, title: str, usage: Sequence[float] | None, color: Rgb, dead: Sequence[int]) -> None:
    """Shares of a class's region; the line is where all would win alike, crosses are dead ones."""
    axes.set_title(title, fontsize=_SMALL + 1, loc="left", parse_math=False)
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=_SMALL)
    if usage is None:
        axes.text(0.5, 0.5, "no region", ha="center", va="center", fontsize=_SMALL + 1, transform=axes.transAxes)
        axes.set_xticks([])
        return
    count = len(usage)
    axes.bar(range(count), usage, color=np.array(color) / 255, edgecolor="black", linewidth=0.5)
    axes.axhline(1 / count, color="grey", linewidth=0.8, linestyle="--")
    for k in dead:
        axes.text(k, usage[k] + 0.02, "×", ha="center", fontsize=_SMALL + 3)
    _ticks(axes, [str(k + 1) for k in range(count)], "x")
    axes.set_ylabel("usage", fontsize=_SMALL)


def _matrix(axes: Axes, table: Doubles, rows: Sequence[str], columns: Sequence[str] | None = None) -> None:
    """Correlations, blue −1 to red 1; grey where there is none."""
    axes.set_facecolor("lightgrey")
    axes.imshow(np.ma.masked_invalid(table), cmap=_MAP, vmin=-1, vmax=1, interpolation="nearest")
    _ticks(axes, columns or rows, "x")
    _ticks(axes, rows, "y")
    if max(table.shape) > _MOST_NUMBERS:
        axes.figure.colorbar(axes.images[0], ax=axes, shrink=0.8).ax.tick_params(labelsize=_SMALL)
        return
    for (y, x), value in np.ndenumerate(table):
        if not np.isnan(value):
            ink = "white" if abs(value) > 0.6 else "black"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=_SMALL, color=ink)


def _ticks(axes: Axes, names: Sequence[str], axis: str) -> None:
    every = -(-len(names) // _MOST_TICKS)
    places = range(0, len(names), every)
    long = axis == "x" and max(map(len, names)) > 2
    getattr(axes, f"set_{axis}ticks")(places, names[::every], fontsize=_SMALL, rotation=90 if long else 0)
