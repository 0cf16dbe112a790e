"""The map that the paper's released code draws, for comparison only: stretched in every tile, cut to image labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lpd.evaluation.confusion import Counts, confusion_matrix
from lpd.evaluation.protocols import GIVEN, background_given, score_table
from lpd.model.cam import at_least_float32
from lpd.model.network import LPDOutput

#: Weight of the three deepest scales, fine to deep; fewer scales share the weights of the deepest.
FUSION = (0.3, 0.3, 0.4)
BACKGROUND_POWER = 10
POWER_RULE = "power rule"
PAPER_NOTES = {
    "map": "CAM of each scale, negative values cut off, stretched to 0–1 per tile and class, times the image label, "
    f"enlarged, then fused {' / '.join(map(str, FUSION))} (fine to deep) with (1 − highest)^{BACKGROUND_POWER} as "
    "background; here without the test-time augmentation and CRF of the released code",
    "oracle": "times the true image label, as in the released code: impossible on slides",
    "predicted": "times the label that the gate predicts (score above one half)",
    POWER_RULE: "background where (1 − highest)^10 is highest",
    GIVEN: "the same map with true background copied over it (pred[gt == background] = background): flattering",
}


def paper_fusion(scales: list[int]) -> dict[int, float]:
    """Weight of each scale that the map is made of: the deepest three, or all if there are fewer; they sum to 1."""
    deepest = sorted(scales)[-len(FUSION) :]
    weights = FUSION[-len(deepest) :]
    return {scale: weight / sum(weights) for scale, weight in zip(deepest, weights, strict=True)}


def paper_map(output: LPDOutput, labels: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Mask values as the released code finds them.

    Args:
        output: of the network, for B tiles.
        labels: (B, C) image labels; a class outside them is never drawn.
        size: (H, W) of the map.

    Returns:
        (B, H, W) uint8: C classes, then background.
    """
    allowed = torch.as_tensor(labels, device=output.class_logits[output.deepest].device)[:, :, None, None]
    cams = [
        weight * _enlarged(_stretched(at_least_float32(output.class_logits[scale])) * allowed, size)
        for scale, weight in paper_fusion(list(output.class_logits)).items()
    ]
    fused = torch.stack(cams).sum(0)
    background = (1 - fused.amax(1, keepdim=True)) ** BACKGROUND_POWER
    return np.asarray(torch.cat((fused, background), 1).argmax(1).to(torch.uint8).cpu().numpy())


def _stretched(cams: Tensor) -> Tensor:
    """(B, C, h, w) CAMs without negative values, each from 0 to 1; a flat one is 0."""
    positive = cams.relu()
    low, high = positive.amin((2, 3), keepdim=True), positive.amax((2, 3), keepdim=True)
    return (positive - low) / torch.where(high > low, high - low, torch.ones_like(high))


def _enlarged(cams: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(cams, size, mode="bilinear", align_corners=False)


class PaperTally:
    """Counts of the paper's map under true and predicted image labels, summed over batches."""

    def __init__(self, codes: tuple[str, ...]) -> None:
        self._codes = codes
        size = len(codes) + 1
        self._counts: dict[str, Counts] = {
            labels: np.zeros((size, size), dtype=np.int64) for labels in ("oracle", "predicted")
        }
        self._fusion: dict[int, float] = {}

    def add(
        self,
        output: LPDOutput,
        truth: npt.NDArray[np.uint8],
        true_labels: npt.NDArray[np.bool_],
        predicted_labels: npt.NDArray[np.bool_],
    ) -> None:
        """Count B tiles: (B, H, W) mask values and (B, C) labels."""
        size = (truth.shape[1], truth.shape[2])
        self._fusion = paper_fusion(list(output.class_logits))
        for name, labels in (("oracle", true_labels), ("predicted", predicted_labels)):
            found = paper_map(output, labels, size)
            self._counts[name] += confusion_matrix(truth, found, len(self._codes) + 1)

    def summary(self) -> dict[str, Any]:
        """Scores by labels and background protocol, as JSON values."""
        return {
            "scales": list(self._fusion),
            "weights": list(self._fusion.values()),
            **{labels: self._tables(counts) for labels, counts in self._counts.items()},
        }

    def _tables(self, counts: Counts) -> dict[str, Any]:
        return {
            POWER_RULE: score_table(counts, self._codes, background=True),
            GIVEN: score_table(background_given(counts), self._codes, background=True),
        }
