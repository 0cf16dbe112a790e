"""Raw logits of a tile set, and the class map that each gate protocol makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput
from lpd.model.scoring import decision_logits, dense_logits

Gate = Literal["predicted", "oracle", "none"]
GATES: tuple[Gate, ...] = ("predicted", "oracle", "none")

_BATCH = 16
# A gate logit this large is certainty whatever the calibration's gain and bias.
_CERTAIN = 1e9


@dataclass(frozen=True, eq=False)
class TileLogits:
    """Raw logits of B tiles.

    Attributes:
        indices: which tiles of the set.
        pixel: (B, C, H, W) fused, as :func:`lpd.model.scoring.dense_logits` gives them.
        gate: (B, C).
        output: what the network said of the unmirrored tiles.
    """

    indices: range
    pixel: Tensor
    gate: Tensor
    output: LPDOutput


@torch.inference_mode()
def tile_logits(
    network: LPDNet, tiles: TileSet, spec: InputSpec, calibration: Calibration, *, flip: bool = False
) -> Iterator[TileLogits]:
    """Raw logits of all tiles in order, batch by batch; ``flip`` averages each with its mirror image.

    The network should be in evaluation mode.
    """
    device = network.prototypes.device
    size = (tiles.tile_px, tiles.tile_px)
    for start in range(0, len(tiles), _BATCH):
        indices = range(start, min(start + _BATCH, len(tiles)))
        images = to_network_input(tiles.images(indices), spec).to(device)
        output = network(images)
        pixel, gate = dense_logits(output, calibration, size)
        if flip:
            mirrored_pixel, mirrored_gate = dense_logits(network(images.flip(3)), calibration, size)
            pixel, gate = (pixel + mirrored_pixel.flip(3)) / 2, (gate + mirrored_gate) / 2
        yield TileLogits(indices, pixel, gate, output)


def gated_logits(logits: TileLogits, labels: npt.NDArray[np.bool_], calibration: Calibration, gate: Gate) -> Tensor:
    """Logit of each tissue class at each pixel under a gate; the highest is the pixel's class.

    Args:
        logits: of B tiles.
        labels: (B, C) true image labels; read by the ``oracle`` gate only.
        calibration: of the checkpoint.
        gate: ``predicted`` is what a slide gets; ``none`` leaves the gate open; ``oracle`` knows which classes the
            tile shows, which nobody knows of a slide: a protocol of the literature, to compare with it.

    Returns:
        (B, C, H, W) float32; background is not among the classes.
    """
    opened = logits.gate
    if gate == "none":
        opened = torch.full_like(opened, _CERTAIN)
    elif gate == "oracle":
        present = torch.as_tensor(labels, device=opened.device)
        opened = torch.where(present, _CERTAIN, -_CERTAIN).to(opened)
    return decision_logits(logits.pixel, opened, calibration)


def class_map(scores: Tensor) -> npt.NDArray[np.uint8]:
    """(B, H, W) uint8 index of the highest of (B, C, H, W)."""
    return np.asarray(scores.argmax(1).to(torch.uint8).cpu().numpy())
