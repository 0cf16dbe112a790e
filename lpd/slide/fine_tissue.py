"""FineTissue: the border between tissue and glass at cell size, inside the coarse tissue mask's generous one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from lpd.slide.region import Region
from lpd.slide.slide import Slide
from lpd.slide.tissue import Glass, TissueMask

Mask = npt.NDArray[np.bool_]

#: One sample per this many pixels of the answer: glass needs no more, and a coarser level of the slide will do.
_STEP = 4
#: Standard deviation, in samples, of the neighbourhood that votes: it closes the gaps between fibres and cells.
_NEIGHBOURHOOD = 1.25
#: Share of votes for tissue that makes tissue; a half would cut thin strands off.
_MAJORITY = 0.4
#: Samples beyond the region that vote, too.
_MARGIN = 8


class FineTissue:
    """Tissue as the coarse mask has it, less what looks like the slide's own glass."""

    def __init__(self, slide: Slide, coarse: TissueMask) -> None:
        self._slide = slide
        self._coarse = coarse

    def read(self, region: Region, size: tuple[int, int]) -> Mask:
        """The mask over ``region`` at ``size`` (width, height): bool (h, w), False outside of the slide.

        Raises:
            SlideError: the slide is damaged here.
        """
        coarse = self._coarse.read(region, size)
        if self._coarse.glass is None or not coarse.any():
            return coarse
        mask: Mask = coarse & self._has_majority(self._coarse.glass, region, size)
        return mask

    def _has_majority(self, glass: Glass, region: Region, size: tuple[int, int]) -> Mask:
        """Whether there is tissue around each pixel of ``region`` at ``size``, (h, w)."""
        columns, rows = (-(-length // _STEP) for length in size)
        step_x, step_y = _STEP * region.width_l0 / size[0], _STEP * region.height_l0 / size[1]
        left, top = round(_MARGIN * step_x), round(_MARGIN * step_y)
        wider = Region(
            region.x_l0 - left,
            region.y_l0 - top,
            round((columns + _MARGIN) * step_x) + left,
            round((rows + _MARGIN) * step_y) + top,
        )
        pixels = self._slide.read(wider, (columns + 2 * _MARGIN, rows + 2 * _MARGIN))
        stained = (glass.signal(pixels) > glass.threshold).astype(np.float32)
        inside = self._inside(wider, pixels.shape[:2])  # nothing beyond the slide has a vote
        heard = ndimage.gaussian_filter(inside, _NEIGHBOURHOOD)
        votes = ndimage.gaussian_filter(stained * inside, _NEIGHBOURHOOD) / np.maximum(heard, 1e-6)
        if votes.min() > _MAJORITY or votes.max() <= _MAJORITY:  # then so is all that lies between
            return np.full((size[1], size[0]), votes.min() > _MAJORITY)
        larger = Image.fromarray(votes).resize(
            (votes.shape[1] * _STEP, votes.shape[0] * _STEP), Image.Resampling.BILINEAR
        )
        inner = slice(_MARGIN * _STEP, _MARGIN * _STEP + size[1]), slice(_MARGIN * _STEP, _MARGIN * _STEP + size[0])
        found: Mask = np.asarray(larger)[inner] > _MAJORITY
        return found

    def _inside(self, region: Region, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """1 for the samples of ``region``, (rows, columns), whose centres lie on the slide, else 0."""
        rows, columns = shape
        y = region.y_l0 + (np.arange(rows) + 0.5) * region.height_l0 / rows
        x = region.x_l0 + (np.arange(columns) + 0.5) * region.width_l0 / columns
        on_slide = ((y >= 0) & (y < self._slide.height_l0))[:, None] & (x >= 0) & (x < self._slide.width_l0)
        return on_slide.astype(np.float32)
