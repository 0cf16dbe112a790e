"""One picture of a result: slide, mask, legend with areas, scale bar, and whose result it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lpd.errors import ConfigError, ResultError
from lpd.export.areas import ClassArea, area_text, areas
from lpd.export.scale_bar import round_length, written
from lpd.export.source import Mask, MaskSource
from lpd.runs import replacing
from lpd.slide.region import Region

Image = npt.NDArray[np.uint8]

_DPI = 100
_LEGEND_INCHES = 3.3
_FOOT_INCHES = 0.6
_INK = "#222222"
_USE = "Research use only, not for diagnosis."


class Pixels(Protocol):
    """The part of ``lpd.slide`` that a snapshot uses."""

    def read(self, region: Region, size: tuple[int, int]) -> Image: ...


def write_snapshot(slide: Pixels, store: MaskSource, path: Path, *, max_px: int = 1600, opacity: float = 0.45) -> None:
    """Write a PNG of the region that was segmented (the slide, if it was all), with the mask over it.

    Args:
        slide: the slide of the result.
        max_px: longer side of the slide's part of the picture, 64 to 10,000.
        opacity: of class colours, 0–1; background and what was not computed stay clear.

    Raises:
        ConfigError: an argument is out of range.
        ResultError: the file cannot be written.
    """
    if not 64 <= max_px <= 10_000 or not 0 <= opacity <= 1:
        raise ConfigError(f"a snapshot needs 64 to 10,000 px and an opacity of 0 to 1, not {max_px} and {opacity}")
    meta = store.meta
    region = meta.region or Region(0, 0, meta.width_l0, meta.height_l0)
    shrink = max_px / max(region.width_l0, region.height_l0)
    size = max(1, round(region.width_l0 * shrink)), max(1, round(region.height_l0 * shrink))
    picture = _overlaid(slide.read(region, size), store.read_mask(region, size), meta.classes.palette(), opacity)
    pixel_um = meta.mask_mpp / meta.scale * region.width_l0 / size[0]
    figure = _page(picture, pixel_um, store)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _overlaid(image: Image, mask: Mask, palette: Image, opacity: float) -> Image:
    classes = mask < len(palette) - 1
    out = image.astype(np.float32)
    out[classes] += (palette[mask[classes]] - out[classes]) * np.float32(opacity)
    return out.round().astype(np.uint8)


def _page(picture: Image, pixel_um: float, store: MaskSource) -> Figure:
    height, width = picture.shape[:2]
    inches = width / _DPI + _LEGEND_INCHES, max(height / _DPI, 3.5) + _FOOT_INCHES
    figure = Figure(figsize=inches, dpi=_DPI, facecolor="white")
    across, down = width / _DPI / inches[0], height / _DPI / inches[1]
    axes = figure.add_axes((0.0, 1 - down, across, down))
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    _scale_bar(axes, width, height, pixel_um)
    figure.legend(
        handles=[_entry(row) for row in areas(store)],
        loc="upper left",
        bbox_to_anchor=(across, 1.0),
        title=f"{store.meta.slide_name}\n",
        frameon=False,
        alignment="left",
        labelcolor=_INK,
    )
    foot = "    ".join(filter(None, (f"model: {store.meta.checkpoint_name}", store.meta.notice, _USE)))
    figure.text(0.01, 0.25 * _FOOT_INCHES / inches[1], foot, color=_INK, fontsize=10)
    return figure


def _entry(row: ClassArea) -> Patch:
    red, green, blue = (channel / 255 for channel in row.color)
    text = f"{row.name}   {area_text(row.area_mm2)}   {row.percent_of_tissue:.1f} %"
    return Patch(facecolor=(red, green, blue), edgecolor=_INK, label=text)


def _scale_bar(axes: Any, width: int, height: int, pixel_um: float) -> None:
    length_um = round_length(width * pixel_um / 5)
    length, left, lower = length_um / pixel_um, 0.02 * width, height - 0.03 * height
    plate = Rectangle((left - 8, lower - 30), length + 16, 38, facecolor="white", alpha=0.8, linewidth=0)
    axes.add_patch(plate)
    axes.plot([left, left + length], [lower, lower], color=_INK, linewidth=4, solid_capstyle="butt")
    axes.text(left + length / 2, lower - 6, written(length_um), color=_INK, ha="center", va="bottom", fontsize=10)
