"""Contact sheets: the best regions of each prototype of a class as pictures, one row a prototype. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lpd.classes import TissueClass
from lpd.explain.gallery import TopRegion
from lpd.explain.slide_figures import ClassFigures
from lpd.slide.slide import Slide

#: Longest side of a picture.
CROP_PX = 224
#: Inches.
_CELL, _LABEL = 1.5, 1.1
_SMALL = 6.5
#: Letters of a slide's name that fit above a picture.
_LETTERS = 24


def contact_sheet(
    own: TissueClass,
    regions: Sequence[Sequence[TopRegion]],
    figures: ClassFigures,
    slides: Mapping[str, Slide],
    names: Sequence[str] = (),
    unit: str = "cosine",
) -> Figure:
    """Draw the regions of each prototype of a class, the best first.

    Args:
        own: the class.
        regions: of each of its prototypes, from :func:`lpd.explain.gallery.top_regions`.
        figures: its figures, which say what is dead or nearly the same.
        slides: by the names of the regions; where one is missing its places are left grey.
        names: of its prototypes; class and number if empty.
        unit: of the scores.

    Returns:
        To be saved by ``savefig``; drawn without a screen.

    Raises:
        SlideError: a region cannot be read.
    """
    columns = max(1, *map(len, regions))
    size = (_LABEL + _CELL * columns, 0.5 + (_CELL + 0.3) * len(regions))
    figure = Figure(figsize=size, layout="constrained")
    title = f"{own.name} ({own.code})" + ("" if unit == "cosine" else f": a linear head's map, mean {unit}")
    figure.suptitle(title, fontsize=10, parse_math=False)
    axes = figure.subplots(len(regions), columns, squeeze=False)
    for k, row in enumerate(regions):
        for column in range(columns):
            _cell(axes[k][column], row[column] if column < len(row) else None, slides)
        axes[k][0].set_ylabel(
            _said(names[k] if names else f"{own.code} {k + 1}", k, figures),
            fontsize=_SMALL + 1,
            rotation=0,
            ha="right",
            va="center",
            labelpad=6,
            parse_math=False,
        )
    return figure


def crop(slide: Slide, region: TopRegion) -> npt.NDArray[np.uint8]:
    """(h, w, 3) RGB of a region, its longer side ``CROP_PX``."""
    longest = max(region.width_l0, region.height_l0)
    width, height = (max(1, round(CROP_PX * side / longest)) for side in (region.width_l0, region.height_l0))
    return slide.read(region.region, (width, height))


def _cell(axes: Axes, region: TopRegion | None, slides: Mapping[str, Slide]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlim(0, CROP_PX)
    axes.set_ylim(CROP_PX, 0)
    axes.set_aspect("equal")
    if region is None:
        return
    name = region.slide if len(region.slide) <= _LETTERS else region.slide[: _LETTERS - 1] + "…"
    axes.set_title(
        f"{name}\n({region.x_l0}, {region.y_l0})  {region.score:.3f}", fontsize=_SMALL - 1, pad=2, parse_math=False
    )
    if (slide := slides.get(region.slide)) is None:
        axes.set_facecolor("lightgrey")
        return
    pixels = crop(slide, region)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    axes.set_xlim(0, CROP_PX)
    axes.set_ylim(CROP_PX, 0)


def _said(name: str, k: int, figures: ClassFigures) -> str:
    """A prototype's name, its usage, and whether it is dead or nearly another."""
    lines = [name.replace(" (", "\n(", 1)]
    if k not in figures.counted:
        return "\n".join([*lines, "muted or merged"])
    if figures.usage is not None:
        lines.append(f"wins {figures.usage[k]:.1%}")
    if k in figures.dead:
        lines.append("dead")
    twins = [j if i == k else i for i, j, _ in figures.near_duplicates if k in (i, j)]
    if twins:
        lines.append("nearly " + ", ".join(str(j + 1) for j in twins))
    return "\n".join(lines)
