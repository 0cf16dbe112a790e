"""From blended logits to what is stored: scored cell by cell, enlarged ×4 once, and decided pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration
from lpd.inference.blend import BlendedPanel
from lpd.inference.meta import CELL_PX
from lpd.inference.store import SCORE_MAX
from lpd.model.scoring import log_scores

Bytes = npt.NDArray[np.uint8]
#: Rows of cells that are enlarged at once; bounds memory and changes nothing else.
_STRIPE_CELLS = 64
#: Log scores are rounded to so many steps per unit; one that is e⁻¹⁵ of the highest is as good as none.
_STEPS, _FARTHEST = 1 << 14, 15.0


def panel_scores(blended: BlendedPanel, calibration: Calibration) -> Tensor:
    """(C, m + 1, n + 1) log scores of a panel's cells and the row and column before; 0 where no window looked."""
    classes = len(calibration.pixel_gain)
    pixel, gate = blended.logits[None, :classes], blended.logits[None, classes:]
    return log_scores(pixel, gate, calibration)[0] * blended.known


def decide(scores: Tensor, known: Tensor) -> Bytes:
    """The class with the highest score at each pixel of the panel's ``pixel_box``.

    Args:
        scores: from :func:`panel_scores`.
        known: of the panel.

    Returns:
        (4 m, 4 n) uint8: 0 … C−1, or C (background) where no window looked.
    """
    rows = range(0, known.shape[0] - 1, _STRIPE_CELLS)
    parts = [slice(row, row + _STRIPE_CELLS + 1) for row in rows]
    return torch.cat([_decide_stripe(scores[:, part], known[part]) for part in parts]).cpu().numpy()


def cell_scores(scores: Tensor, known: Tensor) -> Bytes:
    """Scores of the cells of the panel's ``box``, (C, m, n) uint8, 0–254 for 0–1; 0 where no window looked."""
    own = (scores.exp() * known)[:, 1:, 1:]
    return (own * SCORE_MAX).round().to(torch.uint8).cpu().numpy()


def enlarge(values: Tensor) -> Tensor:
    """Bilinear ×4 between the centres of cells: (C, m + 1, n + 1) to (C, 4 m, 4 n).

    Pixel 0 of the result lies ⅛ of a cell beyond the centre of cell 0, so that neighbouring blocks which share one
    row of cells continue one another. They do so to the last digit where values are whole multiples of 2⁻¹⁴ between
    −16 and 16: their weighted sums, in steps of 2⁻²⁰, are numbers that float32 holds.
    """
    half = CELL_PX // 2
    larger = functional.interpolate(values[None], scale_factor=float(CELL_PX), mode="bilinear", align_corners=False)
    return larger[0, :, half:-half, half:-half]


def _decide_stripe(scores: Tensor, known: Tensor) -> Tensor:
    # Cells that no window saw are 0 for all classes, and so they pull towards none.
    best = first_highest(enlarge(_in_steps(scores)))
    if bool(known.all()):
        return best
    return best.masked_fill_(enlarge(known[None].to(torch.float32))[0] == 0, len(scores))


def _in_steps(scores: Tensor) -> Tensor:
    """Log scores less the highest of their cell, which moves no border, and rounded so that enlarging is exact."""
    return ((scores - scores.amax(0)).clamp_min(-_FARTHEST) * _STEPS).round() / _STEPS


def enlarge_known(scores: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of pixels from those of the known cells around them alone: the others, being 0, would pull towards a tie.

    Returns:
        (C, 4 m, 4 n) scores, 0 where no cell around is known; (4 m, 4 n) bool, where one is.
    """
    share = enlarge(known[None].to(torch.float32))[0]
    return enlarge(scores) / share.clamp_min(1e-6), share > 0


def first_highest(scores: Tensor) -> Tensor:
    """Index of the highest of (C, h, w) along C, the first of equals, as uint8; faster than ``argmax`` on a CPU."""
    index = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    highest = scores[0]
    for number in range(1, len(scores)):
        index.masked_fill_(scores[number] > highest, number)
        highest = torch.maximum(highest, scores[number])
    return index
