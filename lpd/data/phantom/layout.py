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
_STEP = 8  # fields are sampled on a global grid of this many pixels and interpolated linearly in between


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
        if (coarse == coarse.flat[0]).all():
            # Every rule below is a threshold on linearly interpolated fields, or a minimum of two of them: a cell
            # whose corners agree on all fields is uniform. Cells this small never hide a region.
            return np.full((height, width), coarse.flat[0], np.uint8)
        return _classify({name: rows.down(columns.across(field)) for name, field in fields.items()})

    def _fields(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> dict[str, Floats]:
        x, y = (x_px * MPP)[None, :], (y_px * MPP)[:, None]
        noise = self._noises
        ragged = 0.16 * noise["ragged"](x, y)
        nest = noise["nest"](x, y) + 0.35 * noise["nest_region"](x, y) + ragged
        tissue = noise["tissue"](x, y) + 1.15 + 0.3 * ragged
        if self.size is not None:
            tissue = np.minimum(tissue, 3 * self._margin(x_px, y_px) + 0.5 * noise["edge"](x, y))
        return {
            "tissue": np.minimum(tissue, 2.05 - noise["hole"](x, y) - 0.6 * np.maximum(nest, 0)),
            "nest": nest - 0.35,
            "necrosis": np.minimum(nest - 1.0, noise["hypoxia"](x, y) - 0.1),
            "rim": np.minimum(nest + 0.25, noise["immune"](x, y) - 0.55),
            "cluster": noise["follicle"](x, y) - 1.25 + ragged,
            "epithelial_form": noise["epithelial_form"](x, y),
            "stromal_form": noise["stromal_form"](x, y),
            "immune_form": noise["immune_form"](x, y),
            "necrotic_form": noise["necrotic_form"](x, y),
        }

    def _margin(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> Floats:
        """0 on an ellipse near the slide's edge, rising to about 1 in the middle, negative outside."""
        assert self.size is not None
        width, height = self.size
        across = np.abs(2 * x_px / width - 1)[None, :] ** 3
        down = np.abs(2 * y_px / height - 1)[:, None] ** 3
        return (0.75 - across - down).astype(np.float32)

    @cached_property
    def _noises(self) -> dict[str, Noise]:
        shapes = {  # name: (wavelength in µm, octaves, gain)
            "tissue": (2600.0, 4, 0.45),
            "edge": (700.0, 4, 0.5),
            "hole": (260.0, 3, 0.4),
            "nest": (330.0, 2, 0.4),
            "nest_region": (1700.0, 1, 0.5),
            "ragged": (46.0, 2, 0.5),
            "hypoxia": (700.0, 1, 0.5),
            "immune": (420.0, 2, 0.5),
            "follicle": (280.0, 2, 0.35),
            "epithelial_form": (900.0, 2, 0.4),
            "stromal_form": (600.0, 2, 0.4),
            "immune_form": (500.0, 2, 0.4),
            "necrotic_form": (600.0, 2, 0.4),
        }
        return {name: Noise(self.seed * 32 + number, *shape) for number, (name, shape) in enumerate(shapes.items())}


def _classify(fields: dict[str, Floats]) -> Kinds:
    kinds = np.where(fields["stromal_form"] > 0, _kind(_STR, 1), _kind(_STR, 0))
    immune = (fields["rim"] > 0) | (fields["cluster"] > 0)
    _put(kinds, immune, _LYM, fields["immune_form"])
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
    """Grid points that enclose a run of pixels, and the linear interpolation from points to pixels."""

    points: npt.NDArray[np.float64]
    left: npt.NDArray[np.int64]
    share: Floats

    @classmethod
    def over(cls, start: int, count: int) -> _Grid:
        first, last = start // _STEP, (start + count - 1) // _STEP + 1
        pixels = np.arange(start, start + count)
        share = ((pixels % _STEP) / np.float32(_STEP)).astype(np.float32)
        return cls(np.arange(first, last + 1) * float(_STEP), pixels // _STEP - first, share)

    def across(self, field: Floats) -> Floats:
        return field[:, self.left] * (1 - self.share) + field[:, self.left + 1] * self.share

    def down(self, field: Floats) -> Floats:
        share = self.share[:, None]
        return field[self.left] * (1 - share) + field[self.left + 1] * share
