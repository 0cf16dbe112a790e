"""PanelWriter: stores each blended panel: decided, cut to what was asked for, glass turned into background."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lpd.config import Calibration
from lpd.inference.blend import BlendedPanel
from lpd.inference.blocks import BlockReader, blocks_to_keep
from lpd.inference.decision import cell_scores, decide, panel_scores
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.store import ResultStore
from lpd.inference.wanted import Wanted, within
from lpd.slide.fine_tissue import FineTissue

Bytes = npt.NDArray[np.uint8]
#: Rows of blocks that what is stored at a time touches, and as far left of and above the next as anybody looks.
_ROWS, _AROUND_PX = 3, 64


class PanelWriter:
    """Puts panels into a store.

    Attributes:
        tissue_px: mask pixels stored so far that are a class, not background.
        missing_px: wanted mask pixels that are not stored yet.
    """

    def __init__(self, store: ResultStore, count: int, tissue: FineTissue, calibration: Calibration) -> None:
        """Write nothing yet; :meth:`turn_to` says what comes first.

        Args:
            count: how many mask pixels are wanted in all.
        """
        self.tissue_px, self.missing_px = 0, count
        self._store = store
        self._frame = store.meta.frame
        self._calibration = calibration
        self._fine_tissue = tissue

    def turn_to(self, wanted: Wanted) -> None:
        """From now on panels are those of these pixels, of which there are some."""
        self._wanted = wanted
        keep = blocks_to_keep(wanted.box.width, _ROWS)
        self._tissue = BlockReader(self._fine_tissue.read, self._frame, np.array(False), keep)

    def write(self, blended: BlendedPanel) -> None:
        """Store one panel and announce it.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        if not self._wanted.any(blended.box.grown(CELL_PX)):
            return
        scores = self.write_scores(blended)
        box = blended.pixel_box.intersection(self._wanted.box)
        if box and self._wanted.any(box):
            seen = bool(blended.known.any())
            self.write_mask(box, decide(scores, blended.known)[within(box, blended.pixel_box)] if seen else None)
        self._tissue.forget(blended.box.moved(-_AROUND_PX))

    def has_tissue(self, box: Box) -> bool:
        """Whether any pixel of ``box`` is tissue."""
        return bool(self.tissue(box).any())

    def tissue(self, box: Box) -> npt.NDArray[np.bool_]:
        """(h, w) which mask pixels of ``box`` are tissue; none outside of the slide."""
        return self._tissue.read(box)

    def write_mask(self, box: Box, classes: Bytes | None) -> None:
        """Store the wanted pixels of a part of the mask, glass as background, and announce it.

        Args:
            box: mask pixels, not empty.
            classes: (h, w) of the box; None where all is background.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        background = self._store.meta.classes.background
        mask = np.full((box.height, box.width), background)
        if classes is not None:
            mask = np.where(self._tissue.read(box), classes, background)
        wanted = self._wanted.read(box)
        self._store.write_mask(box.x0, box.y0, mask.astype(np.uint8), wanted)
        self.tissue_px += int(np.count_nonzero((mask != background) & wanted))
        self.missing_px -= int(np.count_nonzero(wanted))
        region = self._frame.to_l0(box)
        if region is not None:
            self._store.commit(region, box)

    def write_scores(self, blended: BlendedPanel) -> Tensor:
        """Store scores of the cells that the wanted pixels touch, 0 where there is glass only.

        Returns:
            The panel's log scores, see :func:`~lpd.inference.decision.panel_scores`.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        scores = panel_scores(blended, self._calibration)
        box = blended.box.intersection(_whole_cells(self._wanted.box))
        if not box:
            return scores
        part = tuple(slice(s.start // CELL_PX, s.stop // CELL_PX) for s in within(box, blended.box))
        stored = cell_scores(scores, blended.known)[:, part[0], part[1]]
        tissue, wanted = (_by_cells(pixels.read(box)) for pixels in (self._tissue, self._wanted))
        values = np.where(tissue, stored, 0).astype(np.uint8)
        self._store.write_scores(box.x0 // CELL_PX, box.y0 // CELL_PX, values, wanted)
        return scores


def _by_cells(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether any pixel of each cell is True."""
    height, width = pixels.shape
    return np.asarray(pixels.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX).any(axis=(1, 3)))


def _whole_cells(box: Box) -> Box:
    x1, y1 = -(-box.x1 // CELL_PX) * CELL_PX, -(-box.y1 // CELL_PX) * CELL_PX
    return Box(box.x0 // CELL_PX * CELL_PX, box.y0 // CELL_PX * CELL_PX, x1, y1)
