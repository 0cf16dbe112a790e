"""Contact sheets of a data set: the tiles that each prototype of a class answers most to, the place framed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lpd.classes import TissueClass
from lpd.data.tiles import TileSet
from lpd.explain.data_gallery import TopPlace

#: Inches and points.
_CELL, _LABEL, _SMALL = 1.5, 1.1, 6.5
#: Letters of a tile's name that fit above a picture.
_LETTERS = 26


def tile_sheet(
    own: TissueClass,
    places: Sequence[Sequence[TopPlace]],
    figures: Mapping[str, Any] | None,
    tiles: TileSet,
    names: Sequence[str],
) -> Figure:
    """Draw the places of each prototype of a class, the best first.

    Args:
        own: the class.
        places: of each of its prototypes, from :func:`lpd.explain.data_gallery.top_places`.
        figures: the class's, which say what is dead or nearly the same; None if there are none.
        tiles: that they are in.
        names: what people call the prototypes; empty for those without a name.

    Returns:
        To be saved by ``savefig``; drawn without a screen.

    Raises:
        DatasetError: a tile cannot be read.
    """
    columns = max(1, *map(len, places))
    figure = Figure(figsize=(_LABEL + _CELL * columns, 0.5 + (_CELL + 0.3) * len(places)), layout="constrained")
    figure.suptitle(f"{own.name} ({own.code})", fontsize=10, parse_math=False)
    axes = figure.subplots(len(places), columns, squeeze=False)
    for k, row in enumerate(places):
        for column in range(columns):
            _cell(axes[k][column], row[column] if column < len(row) else None, tiles)
        text = "\n".join([f"{own.code} {k + 1}", *([names[k]] if names[k] else []), *_said(k, figures)])
        axes[k][0].set_ylabel(
            text, fontsize=_SMALL + 1, rotation=0, ha="right", va="center", labelpad=6, parse_math=False
        )
    return figure


def _cell(axes: Axes, place: TopPlace | None, tiles: TileSet) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if place is None:
        return
    name = place.tile if len(place.tile) <= _LETTERS else place.tile[: _LETTERS - 1] + "…"
    axes.set_title(
        f"{name}\n({place.x_px}, {place.y_px})  {place.score:.3f}", fontsize=_SMALL - 1, pad=2, parse_math=False
    )
    side = tiles.tile_px
    axes.imshow(tiles.images([place.number])[0], extent=(0, side, side, 0), interpolation="nearest")
    corner = place.x_px, place.y_px
    for colour, width in (("black", 2.2), ("white", 1.0)):
        axes.add_patch(Rectangle(corner, place.width_px, place.height_px, fill=False, ec=colour, lw=width))


def _said(k: int, figures: Mapping[str, Any] | None) -> list[str]:
    """Its usage, and whether it is dead or nearly another."""
    if figures is None or figures["usage"] is None:
        return []
    lines = [f"wins {figures['usage'][k]:.1%}"] + (["dead"] if k in figures["dead"] else [])
    twins = [j if i == k else i for i, j, _ in figures["near_duplicates"] if k in (i, j)]
    return [*lines, "nearly " + ", ".join(str(j + 1) for j in twins)] if twins else lines
