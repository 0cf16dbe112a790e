"""RefiningWriter: borders of the mask moved to the slide's edges of colour, block by block, on their way to the store.

A block is refined when the scores of all panels around it, as far as the refinement looks, are there. Blocks lie on a
grid of their own that begins at the slide's (0, 0) and never moves, and each is refined with the same surroundings
whatever is asked for: so the mask does not depend on panels, on the region, or on where a run was interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.inference.blend import BlendedPanel
from lpd.inference.blocks import BlockReader
from lpd.inference.decision import enlarge_known, first_highest
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import RefinementName
from lpd.inference.wanted import Wanted, within
from lpd.inference.writer import PanelWriter
from lpd.refinement.crf import refine_crf
from lpd.refinement.pamr import PamrSettings, refine_pamr

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Refinement:
    """A way to refine.

    Attributes:
        refine: images (1, 3, H, W) RGB in [0, 1] and probabilities (1, C, H, W) to probabilities of that shape, with
            the settings that evaluation scores it with.
        block_px: side of the squares that are refined at a time.
        halo_px: what is refined with them on each side and thrown away.
    """

    refine: Callable[[Tensor, Tensor], Tensor]
    block_px: int
    halo_px: int

    def blocks(self, wanted: Wanted) -> Iterator[Box]:
        """The blocks that hold a wanted pixel, row by row."""
        around, side = self._around(wanted.box), self.block_px
        for y in range(around.y0, around.y1, side):
            for x in range(around.x0, around.x1, side):
                if wanted.any(block := Box(x, y, x + side, y + side)):
                    yield block

    def seen(self, block: Box, bounds: Box) -> Box:
        """What is refined with a block, inside the mask's bounds."""
        return block.grown(self.halo_px).intersection(bounds)

    def depends_on(self, wanted: Box, bounds: Box) -> Box:
        """A rectangle around all pixels whose scores the mask in ``wanted``, which is not empty, is made of."""
        return self.seen(self._around(wanted), bounds)

    def needs(self, wanted: Wanted, bounds: Box) -> Callable[[Box], bool]:
        """A function that tells whether any of those pixels lies inside a box."""
        around, side = self._around(wanted.box), self.block_px
        refined = np.zeros((around.height // side, around.width // side), np.bool_)
        for block in self.blocks(wanted):
            refined[(block.y0 - around.y0) // side, (block.x0 - around.x0) // side] = True

        def tell(box: Box) -> bool:
            inside = box.intersection(bounds)
            near = inside.grown(self.halo_px).intersection(around) if inside else inside
            rows, columns = within(near, around)
            blocks = refined[
                rows.start // side : -(-rows.stop // side), columns.start // side : -(-columns.stop // side)
            ]
            return bool(near and blocks.any())

        return tell

    def _around(self, wanted: Box) -> Box:
        """The blocks that share a pixel with a rectangle."""
        side = self.block_px
        x1, y1 = -(-wanted.x1 // side) * side, -(-wanted.y1 // side) * side
        return Box(wanted.x0 // side * side, wanted.y0 // side * side, x1, y1)


#: PAMR cannot see beyond its halo. A CRF can; docs/decisions/0011 has how little that matters. Its lengths are whole
#: standard deviations of 50 px, so that its bilateral grid, which begins with the picture, falls alike in all blocks.
_REFINEMENTS = {
    "pamr": Refinement(refine_pamr, 512, PamrSettings().reach_px),
    "crf": Refinement(refine_crf, 400, 200),
}


def refinement_of(name: RefinementName) -> Refinement | None:
    """The refinement of this name; None for ``none``."""
    return _REFINEMENTS.get(name)


class RefiningWriter:
    """Takes a blender's panels in place of a :class:`PanelWriter`, which it gives scores and blocks of the mask."""

    def __init__(
        self,
        writer: PanelWriter,
        refinement: Refinement,
        wanted: Wanted,
        bounds: Box,
        pixels: BlockReader,
        stop_requested: Callable[[], bool],
    ) -> None:
        """Wait for the first panel.

        Args:
            writer: stores what is finished; unrefined scores at once.
            refinement: how.
            wanted: mask pixels to store.
            bounds: of the mask.
            pixels: reads the slide.
            stop_requested: asked before each block; those left are not stored then.
        """
        self._writer, self._refinement, self._wanted, self._bounds = writer, refinement, wanted, bounds
        self._pixels, self._stop_requested = pixels, stop_requested
        self._waiting = deque(refinement.blocks(wanted))
        self._kept: list[tuple[Box, Tensor]] = []

    def write(self, blended: BlendedPanel) -> None:
        """Take one panel, and store the blocks that it completes.

        Raises:
            ResultError: the disk is full or cannot be written.
            SlideError: the slide is damaged there.
        """
        scores = self._writer.write_scores(blended)
        if bool(blended.known.any()):
            self._kept.append((blended.box, torch.cat([scores, blended.known[None].to(scores)])[:, 1:, 1:]))
        while self._waiting and self._complete(self._waiting[0], blended.box) and not self._stop_requested():
            block = self._waiting.popleft()
            self._forget_above(block)
            box = block.intersection(self._wanted.box)
            self._writer.write_mask(box, self._classes(block, box) if self._writer.has_tissue(box) else None)

    def _complete(self, block: Box, last: Box) -> bool:
        """Whether panels up to ``last``, which came row by row, hold all that a block depends on."""
        cells = _cells_around(self._refinement.seen(block, self._bounds))
        return cells.y1 <= last.y0 or (cells.y1 <= last.y1 and cells.x1 <= last.x1)

    def _forget_above(self, block: Box) -> None:
        top = _cells_around(self._refinement.seen(block, self._bounds)).y0
        self._kept = [(box, cells) for box, cells in self._kept if box.y1 > top]

    def _classes(self, block: Box, box: Box) -> Bytes | None:
        """(h, w) classes of ``box``, the wanted part of a block; None where no window looked."""
        seen = self._refinement.seen(block, self._bounds)
        cells = self._cells(_cells_around(seen))
        if cells is None:
            return None
        scores, known = enlarge_known(cells[:-1], cells[-1])
        inner = within(seen, _pixels_between(_cells_around(seen)))
        scores, known = scores[:, inner[0], inner[1]], known[inner]
        classes = first_highest(scores)
        if _differ(classes[known]):
            classes = first_highest(self._refined(seen, scores))
        return classes.masked_fill_(~known, len(scores))[within(box, seen)].cpu().numpy()

    def _refined(self, seen: Box, scores: Tensor) -> Tensor:
        image = torch.from_numpy(self._pixels.read(seen)).to(scores.device).permute(2, 0, 1) / 255
        return self._refinement.refine(image[None], scores.softmax(0)[None])[0]

    def _cells(self, around: Box) -> Tensor | None:
        """(C + 1, m, n) log scores of cells and whether they are known, 0 where they are not; None if none is."""
        found = None
        for box, cells in self._kept:
            part = box.intersection(around)
            if not part:
                continue
            if found is None:
                found = cells.new_zeros(len(cells), around.height // CELL_PX, around.width // CELL_PX)
            to, source = _cell_slices(part, around), _cell_slices(part, box)
            found[:, to[0], to[1]] = cells[:, source[0], source[1]]
        return found


def _differ(classes: Tensor) -> bool:
    """Whether there is more than one class. Where one has the highest score everywhere, refined scores, which are means
    of others or products of such means, cannot but favour it too."""
    return len(classes) > 0 and bool((classes != classes[0]).any())


def _cells_around(box: Box) -> Box:
    """Mask pixels of the cells that pixels of ``box`` are enlarged from: those that hold them and one more around."""
    x1, y1 = -(-box.x1 // CELL_PX) * CELL_PX, -(-box.y1 // CELL_PX) * CELL_PX
    return Box(box.x0 // CELL_PX * CELL_PX, box.y0 // CELL_PX * CELL_PX, x1, y1).grown(CELL_PX)


def _pixels_between(cells: Box) -> Box:
    """Mask pixels that enlarging cells yields: from the middle of the first to that of the last."""
    return cells.grown(-CELL_PX // 2)


def _cell_slices(box: Box, whole: Box) -> tuple[slice, slice]:
    rows, columns = within(box, whole)
    return slice(rows.start // CELL_PX, rows.stop // CELL_PX), slice(columns.start // CELL_PX, columns.stop // CELL_PX)
