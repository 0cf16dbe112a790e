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
from lpd.slide.fine_tissue import FineTissue

Bytes = npt.NDArray[np.uint8]


class PanelWriter:
    """Puts panels into a store.

    Attributes:
        tissue_px: mask pixels stored so far that are a class, not background.
    """

    def __init__(self, store: ResultStore, wanted: Box, tissue: FineTissue, calibration: Calibration) -> None:
        self.tissue_px = 0
        self._store = store
        self._frame = store.meta.frame
        self._wanted = wanted
        self._calibration = calibration
        self._tissue = BlockReader(tissue.read, self._frame, np.array(False), blocks_to_keep(wanted.width))

    def write(self, blended: BlendedPanel) -> None:
        """Store one panel and announce it.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        scores = panel_scores(blended, self._calibration)
        self._write_scores(blended, scores)
        self._write_mask(blended, scores)

    def _write_mask(self, blended: BlendedPanel, scores: Tensor) -> None:
        box = blended.pixel_box.intersection(self._wanted)
        if not box:
            return
        background = self._store.meta.classes.background
        if bool(blended.known.any()):
            part = _within(box, blended.pixel_box)
            mask = np.where(self._tissue.read(box), decide(scores, blended.known)[part], background)
        else:
            mask = np.full((box.height, box.width), background)
        self._store.write_mask(box.x0, box.y0, mask.astype(np.uint8))
        self.tissue_px += int(np.count_nonzero(mask != background))
        region = self._frame.to_l0(box)
        if region is not None:
            self._store.commit(region)

    def _write_scores(self, blended: BlendedPanel, scores: Tensor) -> None:
        """Scores of the cells that the wanted pixels touch; 0 where there is glass only."""
        box = blended.box.intersection(_whole_cells(self._wanted))
        if not box:
            return
        part = tuple(slice(s.start // CELL_PX, s.stop // CELL_PX) for s in _within(box, blended.box))
        stored = cell_scores(scores, blended.known)[:, part[0], part[1]]
        tissue = self._tissue.read(box).reshape(box.height // CELL_PX, CELL_PX, -1, CELL_PX).any(axis=(1, 3))
        self._store.write_scores(box.x0 // CELL_PX, box.y0 // CELL_PX, np.where(tissue, stored, 0).astype(np.uint8))


def _within(box: Box, whole: Box) -> tuple[slice, slice]:
    """Rows and columns of ``box`` in an array of ``whole``."""
    y, x = box.y0 - whole.y0, box.x0 - whole.x0
    return slice(y, y + box.height), slice(x, x + box.width)


def _whole_cells(box: Box) -> Box:
    x1, y1 = -(-box.x1 // CELL_PX) * CELL_PX, -(-box.y1 // CELL_PX) * CELL_PX
    return Box(box.x0 // CELL_PX * CELL_PX, box.y0 // CELL_PX * CELL_PX, x1, y1)
