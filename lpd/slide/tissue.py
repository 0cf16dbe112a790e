"""Tissue mask: which parts of a slide hold tissue rather than glass, from one coarse look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from lpd.errors import ConfigError
from lpd.slide.region import Region
from lpd.slide.slide import Pixels, Slide

Mask = npt.NDArray[np.bool_]

#: Longest side of the look at a slide: a huge one is seen a little coarser than asked for.
_LONGEST_PX = 4096
#: Longest side where nobody knows the resolution.
_LONGEST_PX_UNKNOWN = 2048

#: Specks and holes below this area are removed and filled; 64 px at 8 µm/px, a square of 64 µm.
_SPECK_UM2 = 4096.0
_SPECK_PX_UNKNOWN = 64
#: In a picture as small as a tile, what covers more than this part of it is no speck.
_SPECK_SHARE = 0.02
#: The mask grows by this much, so that pale rims are kept.
_MARGIN_UM = 16.0
_MARGIN_PX_UNKNOWN = 2

#: Bounds on the threshold (optical density): an empty slide is below the lower one, a slide full of tissue above the
#: upper one, and neither is split.
_LOWEST, _HIGHEST = 0.06, 0.20
#: Glass is at least this bright in every channel and this close to grey.
_GLASS_BRIGHT, _GLASS_CHROMA = 200, 16
#: Less glass than this part of the slide is not enough to tell its colour by.
_GLASS_SHARE = 0.002
_STRIPE_ROWS = 256
#: Of a histogram.
_BINS = 256
#: Scanners and converters fill what they did not scan with black, too.
_BLACK = 10


@dataclass(frozen=True)
class Glass:
    """How a slide's glass looks, and from what signal on something is tissue.

    Attributes:
        color: (red, green, blue) of clear glass.
        threshold: of :meth:`signal`.
    """

    color: tuple[int, int, int]
    threshold: float

    def signal(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Optical density of the darkest channel plus the spread between channels; 0 on glass and black fill.

        Args:
            pixels: uint8 (h, w, 3) RGB.

        Returns:
            (h, w), from 0.
        """
        # One table per channel: density is a function of 256 values.
        values = np.arange(256, dtype=np.float32)
        tables = [np.maximum(0, np.log((g + 1) / (values + 1))).astype(np.float32) for g in self.color]
        red, green, blue = (table.take(pixels[..., c]) for c, table in enumerate(tables))
        # Taken in pairs: NumPy is many times as slow along an axis of three.
        high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
        signal: npt.NDArray[np.float32] = 2 * high - low
        brightest = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
        signal[brightest <= _BLACK] = 0
        return signal

    @classmethod
    def seen_in(cls, pixels: Pixels) -> Glass:
        """Learn colour and threshold from an overview picture, uint8 (h, w, 3) RGB."""
        color = _glass(pixels)
        return cls(color, _threshold(cls(color, 0.0), pixels))


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where the tissue is, on a coarse grid stretched over the slide.

    Attributes:
        mask: bool (h, w), True on tissue.
        width_l0, height_l0: size of the slide.
        mpp: µm per level-0 pixel, None if unknown.
        glass: how the slide's glass looks; None where everything is called tissue.
    """

    mask: Mask
    width_l0: int
    height_l0: int
    mpp: float | None
    glass: Glass | None = None

    @property
    def fraction(self) -> float:
        """Part of the slide that the mask covers, 0 to 1."""
        return float(self.mask.mean())

    @property
    def area_mm2(self) -> float | None:
        """Area of the mask in mm², its margin and small holes included; None if the resolution is unknown."""
        if self.mpp is None:
            return None
        return self.fraction * self.width_l0 * self.height_l0 * (self.mpp / 1000) ** 2

    def covers(self, region: Region) -> bool:
        """True if the region holds any tissue; outside the slide there is none."""
        part = region.clipped(self.width_l0, self.height_l0)
        if part is None:
            return False
        rows, cols = self.mask.shape
        top, bottom = part.y_l0 * rows // self.height_l0, -(-part.bottom_l0 * rows // self.height_l0)
        left, right = part.x_l0 * cols // self.width_l0, -(-part.right_l0 * cols // self.width_l0)
        return bool(self.mask[top:bottom, left:right].any())

    def read(self, region: Region, size: tuple[int, int]) -> Mask:
        """The mask over ``region`` at ``size`` (width, height): bool (h, w), nearest to each centre; False where
        a pixel lies outside the slide altogether."""
        cols, inside_x = nearest_cells(region.x_l0, region.width_l0, size[0], self.width_l0, self.mask.shape[1])
        rows, inside_y = nearest_cells(region.y_l0, region.height_l0, size[1], self.height_l0, self.mask.shape[0])
        cells = self.mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        part: Mask = cells.take(rows - rows[0], axis=0).take(cols - cols[0], axis=1)
        if not (inside_x.all() and inside_y.all()):
            part &= inside_y[:, None] & inside_x[None, :]
        return part


def tissue_mask(slide: Slide, mpp: float = 8.0, *, everything: bool = False) -> TissueMask:
    """Find the tissue of a slide.

    Tissue absorbs light and has colour: the signal (:meth:`Glass.signal`) is relative to the slide's own glass. Otsu's
    threshold on the signal's logarithm separates glass noise from even pale tissue; specks go, small holes close, and
    the mask grows by 16 µm. That errs on the side of tissue; :class:`lpd.slide.fine_tissue.FineTissue` draws the line.

    Args:
        slide: any open slide; without a resolution it is looked at with 2048 px on its longer side.
        mpp: µm per pixel of the look, coarser where the slide itself is, or is larger than 4096 px at this scale.
        everything: call the whole slide tissue, without a look.

    Raises:
        ConfigError: ``mpp`` is not positive.
        SlideError: the slide is damaged.
    """
    if not mpp > 0:
        raise ConfigError(f"tissue resolution {mpp} µm/px is not above 0: 8 is usual")
    slide_mpp = slide.mpp.value if slide.mpp else None
    if everything:
        return TissueMask(np.ones((1, 1), dtype=np.bool_), slide.width_l0, slide.height_l0, slide_mpp)
    longest_l0 = max(slide.width_l0, slide.height_l0)
    longest = (
        _LONGEST_PX_UNKNOWN if slide_mpp is None else min(_LONGEST_PX, max(1, round(longest_l0 * slide_mpp / mpp)))
    )
    pixels = slide.thumbnail(longest)
    seen_mpp = None if slide_mpp is None else slide_mpp * longest_l0 / max(pixels.shape)
    glass = Glass.seen_in(pixels)
    mask = _stained(pixels, glass)
    del pixels  # as large as all that cleaning takes
    return TissueMask(_cleaned(mask, seen_mpp), slide.width_l0, slide.height_l0, slide_mpp, glass)


def find_tissue(pixels: Pixels, mpp: float | None, glass: Glass | None = None) -> Mask:
    """Tissue in an overview picture, uint8 (h, w, 3) RGB of ``mpp`` µm/px: bool (h, w)."""
    return _cleaned(_stained(pixels, glass or Glass.seen_in(pixels)), mpp)


def _stained(pixels: Pixels, glass: Glass) -> Mask:
    mask: Mask = np.empty(pixels.shape[:2], np.bool_)
    for rows in _stripes(pixels):
        mask[rows] = glass.signal(pixels[rows]) > glass.threshold
    return mask


def _cleaned(mask: Mask, mpp: float | None) -> Mask:
    """Without specks and small holes, and grown."""
    speck_px = min(_SPECK_PX_UNKNOWN if mpp is None else _SPECK_UM2 / mpp**2, _SPECK_SHARE * mask.size)
    margin_px = _MARGIN_PX_UNKNOWN if mpp is None else max(1, round(_MARGIN_UM / mpp))
    mask = _without_small_parts(mask, speck_px)
    mask = ~_without_small_parts(~mask, speck_px)
    grown: Mask = ndimage.maximum_filter(mask, size=2 * margin_px + 1)
    return grown


def _glass(pixels: Pixels) -> tuple[int, int, int]:
    """Commonest value of each channel over bright grey pixels; white if the slide shows hardly any glass."""
    counts = np.zeros((3, 256), np.int64)
    for rows in _stripes(pixels):
        low, high = pixels[rows].min(axis=2), pixels[rows].max(axis=2)
        # Pure white is what was never scanned, not glass.
        glass = (low >= _GLASS_BRIGHT) & (high - low <= _GLASS_CHROMA) & (low < 255)
        for c in range(3):
            counts[c] += np.bincount(pixels[rows][..., c][glass], minlength=256)
    if counts[0].sum() < _GLASS_SHARE * pixels[..., 0].size:
        return 255, 255, 255
    red, green, blue = counts.argmax(axis=1).tolist()
    return red, green, blue


def _threshold(glass: Glass, pixels: Pixels) -> float:
    """Otsu's threshold on the signal's logarithm, within fixed bounds."""
    logarithm = np.empty(pixels.shape[:2], np.float32)
    for rows in _stripes(pixels):
        np.log(glass.signal(pixels[rows]).clip(0.005, 3.0), out=logarithm[rows])
    return float(np.clip(np.exp(_otsu(logarithm)), _LOWEST, _HIGHEST))


def _otsu(picture: npt.NDArray[np.float32]) -> np.float32:
    """Otsu's threshold of a picture, which scikit-image would copy for its histogram."""
    low, high = picture.min(), picture.max()
    if low == high:
        return np.float32(low)
    counts = np.zeros(_BINS, np.int64)
    for rows in _stripes(picture):
        own, edges = np.histogram(picture[rows], _BINS, (low, high))
        counts += own
    return np.float32(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))


def _without_small_parts(mask: Mask, smallest_px: float) -> Mask:
    labels, count = ndimage.label(mask)
    sizes = np.zeros(count + 1, np.int64)
    for rows in _stripes(labels):
        sizes += np.bincount(labels[rows].ravel(), minlength=count + 1)
    keep = sizes >= smallest_px
    keep[0] = False
    kept = np.empty_like(mask)
    for rows in _stripes(labels):
        kept[rows] = keep[labels[rows]]
    return kept


def _stripes(picture: npt.NDArray[Any]) -> Iterator[slice]:
    """Rows of a picture, some at a time: what is computed of them takes many times the memory of an overview itself."""
    for first in range(0, len(picture), _STRIPE_ROWS):
        yield slice(first, first + _STRIPE_ROWS)


def nearest_cells(
    start: int, length: int, count: int, limit: int, cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Cell index under the centre of each of ``count`` pixels, and whether the pixel touches the slide."""
    doubled = 2 * start * count + (2 * np.arange(count, dtype=np.int64) + 1) * length  # centre · 2 · count
    inside = (doubled > -length) & (doubled < 2 * count * limit + length)
    index = np.clip(doubled * cells // (2 * count * limit), 0, cells - 1)
    return index, inside
