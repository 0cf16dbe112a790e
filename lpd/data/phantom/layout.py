"""Where each tissue class lies on a phantom slide: nests, bands, necrosis, holes, computed for any rectangle alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lpd.classes import BCSS
from lpd.data.phantom.noise import Floats, Noise

#: µm per pixel of phantom level 0.
MPP = 0.5
#: Morphologies drawn per class; a *kind* is ``class * MORPHOLOGIES + morphology``.
MORPHOLOGIES = 2
#: Kind value of bare glass: after all tissue kinds.
GLASS = BCSS.count * MORPHOLOGIES

Kinds = npt.NDArray[np.uint8]

_TUM, _STR, _LYM, _NEC = range(BCSS.count)
_FORMS = ("epithelial_form", "stromal_form", "immune_form", "necrotic_form")
_STEP = 8  # fields are sampled on a global grid of this many pixels and interpolated linearly in between
_SQUARE = 128  # side of the squares that are looked at one by one, most of which are of one kind


def kinds_to_mask(kinds: Kinds) -> npt.NDArray[np.uint8]:
    """Mask values 0 … C−1 and C for glass, from kinds of any shape."""
    return kinds // np.uint8(MORPHOLOGIES)


@dataclass(frozen=True)
class Layout:
    """The region map of one phantom case; coordinates are level-0 pixels of 0.5 µm.

    Attributes:
        seed: of the case.
        size: (width, height) of a slide, whose margin is then glass; None for an endless plane (tiles).
    """

    seed: int
    size: tuple[int, int] | None = None

    def kinds(self, x: int, y: int, width: int, height: int) -> Kinds:
        """(height, width) uint8 kind of every pixel of a rectangle; independent of how the plane is cut up."""
        rows, columns = _Grid.over(y, height), _Grid.over(x, width)
        fields = self._fields(columns.points, rows.points)
        coarse = _classify(fields)
        kinds = np.empty((height, width), np.uint8)
        for top in range(0, height, _SQUARE):
            for left in range(0, width, _SQUARE):
                down, across = rows.part(top), columns.part(left)
                square = kinds[top : top + _SQUARE, left : left + _SQUARE]
                corners = coarse[down.span, across.span]
                if (corners == corners[0, 0]).all():
                    # Kinds follow from the signs of fields that are linear in between: what all points share, all
                    # pixels share.
                    square[...] = corners[0, 0]
                else:
                    parts = {name: field[down.span, across.span] for name, field in fields.items()}
                    square[...] = _classify({name: down.down(across.across(part)) for name, part in parts.items()})
        return kinds

    def survey(self, count: int, step: int) -> Kinds:
        """(count, count) uint8 kinds at points ``step`` pixels apart from (0, 0): a quick look at a large area."""
        points = np.arange(count, dtype=np.float64) * step
        return _classify(self._fields(points, points))

    def _fields(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> dict[str, Floats]:
        x, y = (x_px * MPP)[None, :], (y_px * MPP)[:, None]
        noise = self._noises
        # Bent coordinates: plain gradient noise has straight runs along its lattice, tissue has none.
        x, y = x + 26 * noise["bend_x"](x, y), y + 26 * noise["bend_y"](x, y)
        ragged = 0.16 * noise["ragged"](x, y)
        nest = noise["nest"](x, y) + 0.35 * noise["nest_region"](x, y) + ragged
        tissue = noise["tissue"](x, y) + 1.15 + 0.3 * ragged
        if self.size is not None:
            tissue = np.minimum(tissue, 3 * self._margin(x_px, y_px) + 0.4 * noise["edge"](x, y))
        return {
            "tissue": np.minimum(tissue, 2.05 - noise["hole"](x, y) - 0.6 * np.maximum(nest, 0)),
            "nest": nest - 0.35,
            "necrosis": np.minimum(nest - 1.0, noise["hypoxia"](x, y) - 0.1 + 2 * ragged),
            "immune": np.maximum(
                np.minimum(nest + 0.3, noise["immune"](x, y) - 0.45),  # a band along a nest's border
                noise["follicle"](x, y) - 1.15 + ragged,  # a cluster of its own
            ),
            **{form: noise[form](x, y) + 2 * ragged for form in _FORMS},
        }

    def _margin(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> Floats:
        """0 on an ellipse near the slide's edge, rising to about 1 in the middle, negative outside."""
        assert self.size is not None
        width, height = self.size
        across = np.abs(2 * x_px / width - 1)[None, :] ** 3
        down = np.abs(2 * y_px / height - 1)[:, None] ** 3
        margin: Floats = (0.66 - across - down).astype(np.float32)
        return margin

    @cached_property
    def _noises(self) -> dict[str, Noise]:
        shapes = {  # name: (wavelength in µm, octaves, gain)
            "bend_x": (330.0, 1, 0.5),
            "bend_y": (330.0, 1, 0.5),
            "tissue": (2600.0, 4, 0.45),
            "edge": (700.0, 4, 0.5),
            "hole": (260.0, 3, 0.4),
            "nest": (370.0, 2, 0.4),
            "nest_region": (1700.0, 1, 0.5),
            "ragged": (46.0, 2, 0.5),
            "hypoxia": (500.0, 2, 0.4),
            "immune": (420.0, 2, 0.5),
            "follicle": (340.0, 2, 0.35),
            "epithelial_form": (900.0, 2, 0.4),
            "stromal_form": (600.0, 2, 0.4),
            "immune_form": (500.0, 2, 0.4),
            "necrotic_form": (600.0, 2, 0.4),
        }
        return {name: Noise(self.seed * 32 + number, *shape) for number, (name, shape) in enumerate(shapes.items())}


def _classify(fields: dict[str, Floats]) -> Kinds:
    kinds = np.where(fields["stromal_form"] > 0, _kind(_STR, 1), _kind(_STR, 0))
    _put(kinds, fields["immune"] > 0, _LYM, fields["immune_form"])
    _put(kinds, fields["nest"] > 0, _TUM, fields["epithelial_form"])
    _put(kinds, fields["necrosis"] > 0, _NEC, fields["necrotic_form"])
    kinds[fields["tissue"] < 0] = GLASS
    return kinds


def _kind(class_index: int, morphology: int) -> np.uint8:
    return np.uint8(class_index * MORPHOLOGIES + morphology)


def _put(kinds: Kinds, where: npt.NDArray[np.bool_], class_index: int, form: Floats) -> None:
    kinds[where] = np.where(form[where] > 0, _kind(class_index, 1), _kind(class_index, 0))


@dataclass(frozen=True)
class _Grid:
    """Grid points that enclose a run of pixels, and the linear interpolation from points to pixels.

    Attributes:
        points: (P,) level-0 coordinates of the grid points.
        left: (N,) number of the point at or before each pixel.
        share: (N,) weight of the point after it, 0 to 1.
        span: which of a larger grid's points these are.
    """

    points: npt.NDArray[np.float64]
    left: npt.NDArray[np.int64]
    share: Floats
    span: slice

    @classmethod
    def over(cls, start: int, count: int) -> _Grid:
        first, last = start // _STEP, (start + count - 1) // _STEP + 1
        pixels = np.arange(start, start + count)
        share = (pixels % _STEP).astype(np.float32) / np.float32(_STEP)
        points = np.arange(first, last + 1, dtype=np.float64) * _STEP
        return cls(points, pixels // _STEP - first, share, slice(0, len(points)))

    def part(self, start: int) -> _Grid:
        """The grid under the _SQUARE pixels from ``start`` on, or as many as there are."""
        left = self.left[start : start + _SQUARE]
        span = slice(int(left[0]), int(left[-1]) + 2)
        return _Grid(self.points[span], left - left[0], self.share[start : start + _SQUARE], span)

    def across(self, field: Floats) -> Floats:
        return field[:, self.left] * (1 - self.share) + field[:, self.left + 1] * self.share

    def down(self, field: Floats) -> Floats:
        share = self.share[:, None]
        return field[self.left] * (1 - share) + field[self.left + 1] * share
