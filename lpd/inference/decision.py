"""From blended logits to what is stored: enlarged ×4 once, scored, and decided pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import Calibration
from lpd.inference.blend import BlendedPanel
from lpd.inference.meta import CELL_PX
from lpd.inference.store import SCORE_MAX
from lpd.model.scoring import decision_logits, score_map

Bytes = npt.NDArray[np.uint8]
#: Rows of cells that are enlarged at once; bounds memory and changes nothing else.
_STRIPE_CELLS = 64


def decide(blended: BlendedPanel, calibration: Calibration) -> Bytes:
    """The class with the highest score at each pixel of ``blended.pixel_box``.

    Returns:
        (h, w) uint8: 0 … C−1, or C (background) where no window looked.
    """
    rows = blended.known.shape[0] - 1
    stripes = [
        _decide_stripe(
            blended.logits[:, r : r + _STRIPE_CELLS + 1], blended.known[r : r + _STRIPE_CELLS + 1], calibration
        )
        for r in range(0, rows, _STRIPE_CELLS)
    ]
    return torch.cat(stripes).cpu().numpy()


def cell_scores(blended: BlendedPanel, calibration: Calibration) -> Bytes:
    """Scores of the cells of ``blended.box``, (C, h/4, w/4) uint8, 0–254 for 0–1; 0 where no window looked."""
    pixel, gate = blended.logits[None, :, 1:, 1:].chunk(2, dim=1)
    scores = score_map(pixel, gate, calibration)[0] * blended.known[1:, 1:]
    return (scores * SCORE_MAX).round().to(torch.uint8).cpu().numpy()


def enlarge(values: Tensor) -> Tensor:
    """Bilinear ×4 between the centres of cells: (…, m + 1, n + 1) to (…, 4 m, 4 n).

    Pixel 0 of the result lies ⅛ of a cell beyond the centre of cell 0, so that neighbouring blocks which share one
    row of cells continue one another exactly.
    """
    return _enlarge_last(_enlarge_last(values).transpose(-1, -2)).transpose(-1, -2).contiguous()


def _enlarge_last(values: Tensor) -> Tensor:
    step = (torch.arange(CELL_PX, device=values.device, dtype=values.dtype) + 0.5) / CELL_PX
    near, far = values[..., :-1, None] * (1 - step), values[..., 1:, None] * step
    return (near + far).flatten(-2)


def _decide_stripe(logits: Tensor, known: Tensor, calibration: Calibration) -> Tensor:
    share = enlarge(known.to(torch.float32))
    pixels = enlarge(logits) / share.clamp_min(1e-6)  # cells that no window saw do not pull towards 0
    pixel, gate = pixels[None].chunk(2, dim=1)
    best = _first_highest(decision_logits(pixel, gate, calibration)[0])
    return best.masked_fill_(share == 0, len(calibration.pixel_gain))


def _first_highest(scores: Tensor) -> Tensor:
    """Index of the highest of (C, h, w) along C, the first of equals, as uint8; faster than ``argmax`` on a CPU."""
    index = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    highest = scores[0]
    for number in range(1, len(scores)):
        index.masked_fill_(scores[number] > highest, number)
        highest = torch.maximum(highest, scores[number])
    return index
