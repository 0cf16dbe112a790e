"""Single panels of an inspection's figure: picture with scale bar, masks, maps in their colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from lpd.classes import ClassScheme
from lpd.explain.drawing import FONT, INK, UNKNOWN, text_width
from lpd.explain.inspection import Floats, Inspection, Pixels
from lpd.explain.inspection_layout import SMALL
from lpd.export.scale_bar import round_length, written
from lpd.slide.region import Region

#: Colour of mask values that are no class: not computed, not labelled.
_NO_CLASS = 0xD5


@dataclass(frozen=True, eq=False)
class Painter:
    """Draws in the frame of one picture, level-0 pixels: the places of two models begin on cells of their own.

    Attributes:
        picture: the first model's; all panels show its place.
        frame: that place.
        opacity: of maps over the picture in grey; 1 shows no picture.
    """

    picture: Pixels
    frame: Region
    opacity: float

    def draw_picture(self, axes: Axes, width_um: float, size: tuple[float, float]) -> None:
        """The picture with a scale bar; ``size`` is that of the axes, inches."""
        self._show(axes, self.picture, self.frame)
        _draw_scale_bar(axes, width_um, size)

    def draw_mask(self, axes: Axes, mask: Pixels, scheme: ClassScheme, region: Region) -> None:
        """(h, w) mask values of a region in their classes' colours; grey where they are none."""
        colours = np.full((256, 3), _NO_CLASS, dtype=np.uint8)
        colours[: scheme.count + 1] = scheme.palette()
        self._show(axes, colours[mask], region, interpolation="nearest")

    def draw_map(
        self, axes: Axes, inspection: Inspection, values: Floats, stride_px: float, colours: tuple[Colormap, Normalize]
    ) -> None:
        """One map; grey where nothing was computed."""
        if self.opacity < 1:
            grey = self.picture.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
            self._show(axes, grey, self.frame)
        axes.set_facecolor(UNKNOWN)
        own = inspection.place.region
        cell_l0 = stride_px * own.width_l0 / inspection.mask.shape[1]
        extent = (own.x_l0, own.x_l0 + values.shape[1] * cell_l0, own.y_l0 + values.shape[0] * cell_l0, own.y_l0)
        colour, norm = colours
        axes.imshow(
            np.ma.masked_invalid(values),
            cmap=colour,
            norm=norm,
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            alpha=self.opacity if self.opacity < 1 else None,
        )
        self._frame(axes)

    def _show(self, axes: Axes, pixels: Pixels, region: Region, interpolation: str = "antialiased") -> None:
        extent = (region.x_l0, region.right_l0, region.bottom_l0, region.y_l0)
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation=interpolation)
        self._frame(axes)

    def _frame(self, axes: Axes) -> None:
        axes.set_xlim(self.frame.x_l0, self.frame.right_l0)
        axes.set_ylim(self.frame.bottom_l0, self.frame.y_l0)


def cross_out(axes: Axes) -> None:
    """A large cross that is seen on any colour."""
    for ends in ((0, 1), (1, 0)):
        for colour, width in (("white", 2.2), (INK, 1.0)):
            axes.plot((0, 1), ends, transform=axes.transAxes, color=colour, linewidth=width, scalex=False, scaley=False)


def _draw_scale_bar(axes: Axes, width_um: float, size: tuple[float, float]) -> None:
    """In the lower left corner of a picture so many inches wide and high."""
    width, height = size
    length_um = round_length(width_um / 3)
    bar = length_um / width_um * width
    plate = max(bar, text_width(written(length_um), SMALL)) + 0.1

    def add(x: float, y: float, wide: float, high: float, color: str, alpha: float = 1.0) -> None:
        patch = Rectangle((x / width, y / height), wide / width, high / height, color=color, alpha=alpha, linewidth=0)
        patch.set_transform(axes.transAxes)
        axes.add_patch(patch)

    add(0.03, 0.03, plate, 0.19, "white", 0.85)
    add(0.03 + (plate - bar) / 2, 0.06, bar, 0.03, INK)
    middle = 0.03 + plate / 2
    text = axes.text(middle / width, 0.115 / height, written(length_um), transform=axes.transAxes, color=INK)
    text.set(ha="center", va="baseline", fontsize=SMALL, family=FONT)
