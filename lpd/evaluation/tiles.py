"""Raw logits of a tile set, of one view or averaged over several, and the class map that each gate makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError
from lpd.inference.symmetries import SYMMETRIES, Symmetry
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput, sees_any_size
from lpd.model.scoring import dense_logits, log_scores

Gate = Literal["predicted", "oracle", "none"]
GATES: tuple[Gate, ...] = ("predicted", "oracle", "none")

#: Sizes beside its own at which test-time augmentation (TTA) also shows a tile, as in the paper's code.
TTA_SCALES = (0.9, 1.1)
_SIDE_STEP_PX = 32  # the deepest stride of most encoders

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
    network: LPDNet,
    tiles: TileSet,
    spec: InputSpec,
    calibration: Calibration,
    *,
    flip: bool = False,
    sides: Sequence[int] = (),
    symmetries: bool = False,
) -> Iterator[TileLogits]:
    """Raw logits of all tiles in order, batch by batch, each the mean over its views.

    Args:
        network: in evaluation mode.
        tiles: of any split.
        spec: what the network expects to be fed.
        calibration: its fusion weights are used.
        flip: also view each tile's mirror image, at every size.
        sides: in px; also view each tile resized to these, see :func:`tta_sides`.
        symmetries: view each tile in all eight symmetries of the square, as ``lpd segment --tta`` views windows.

    Raises:
        CheckpointError: an answer is no number.
    """
    size = (tiles.tile_px, tiles.tile_px)
    for start in range(0, len(tiles), _BATCH):
        indices = range(start, min(start + _BATCH, len(tiles)))
        images = to_network_input(tiles.images(indices), spec).to(network.device)
        output = network(images)
        pixel, gate = dense_logits(output, calibration, size)
        moves = SYMMETRIES if symmetries else SYMMETRIES[:1] + (Symmetry(mirrored=True, quarters=0),) * flip
        views = [(side, move) for side in (tiles.tile_px, *sides) for move in moves][1:]
        for side, move in views:
            output_of_view = network(move.moved(_resized(images, side)))
            more_pixel, more_gate = dense_logits(output_of_view, calibration, size)
            pixel, gate = pixel + move.back(more_pixel), gate + more_gate
        if not bool(torch.isfinite(pixel).all()):
            raise CheckpointError(
                f"the network answers {tiles.files[start].image.name} and its neighbours with values that are no "
                "numbers: train it again at a lower learning rate"
            )
        yield TileLogits(indices, pixel / (1 + len(views)), gate / (1 + len(views)), output)


def tta_sides(tile_px: int) -> tuple[int, ...]:
    """The input sizes of ``TTA_SCALES`` for tiles of a size, in px, to the nearest multiple of 32.

    A size that rounds to the tile's own is left out: small tiles have no other view than their mirror image.
    """
    sides = (max(1, round(scale * tile_px / _SIDE_STEP_PX)) * _SIDE_STEP_PX for scale in TTA_SCALES)
    return tuple(dict.fromkeys(side for side in sides if side != tile_px))


def tta_refusal(config: ModelConfig, tile_px: int) -> str | None:
    """Why a network cannot be shown tiles at other sizes, in one sentence; None if it can."""
    for side in tta_sides(tile_px):
        if not sees_any_size(config, side):
            return (
                f"encoder {config.encoder} is made for one size of input and cannot see tiles of {tile_px} px at "
                f"{side} px: leave out --refine tta (--flip averages mirror images)"
            )
    return None


def gated_scores(logits: TileLogits, labels: npt.NDArray[np.bool_], calibration: Calibration, gate: Gate) -> Tensor:
    """Log score of each tissue class at each pixel under a gate; the highest is the pixel's class.

    Args:
        logits: of B tiles.
        labels: (B, C) true image labels; read by the ``oracle`` gate only.
        calibration: of the checkpoint.
        gate: ``predicted`` is the network's own, as on slides; ``none`` leaves the gate open; ``oracle`` knows which
            classes the tile shows, which nobody knows of a slide: a protocol of the literature, to compare with it.

    Returns:
        (B, C, H, W) float32; background is not among the classes.
    """
    opened = logits.gate
    if gate == "none":
        opened = torch.full_like(opened, _CERTAIN)
    elif gate == "oracle":
        present = torch.as_tensor(labels, device=opened.device)
        opened = torch.where(present, _CERTAIN, -_CERTAIN).to(opened)
    return log_scores(logits.pixel, opened, calibration)


def class_map(scores: Tensor) -> npt.NDArray[np.uint8]:
    """(B, H, W) uint8 index of the highest of (B, C, H, W)."""
    return np.asarray(scores.max(1).indices.to(torch.uint8).cpu().numpy())


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[3] == side:
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
