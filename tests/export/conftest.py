"""Hand-made masks as results, and the store's own class for one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lpd.classes import BCSS, ClassScheme
from lpd.slide.region import Region


@dataclass(frozen=True)
class HandMadeMeta:
    """A result's description with plain values; level 0 is twice as fine as the mask."""

    width_l0: int
    height_l0: int
    scale: float = 2.0
    mask_mpp: float = 1.0
    slide_name: str = "hand-made"
    slide_fingerprint: str = "f1"
    checkpoint_name: str = "none"
    checkpoint_digest: str = "sha256:0"
    notice: str = "for tests only"
    classes: ClassScheme = BCSS
    region: Region | None = None
    slide_mpp: float = 0.5
    origin_l0: tuple[int, int] = (0, 0)
    created: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    made_by: str = "0"


@dataclass
class HandMade:
    """A mask in memory that answers like a result store and counts the largest piece asked of it."""

    mask: np.ndarray
    meta: Any = None
    scores: np.ndarray | None = None  # (C, H, W) at the mask's own pixels
    largest: int = field(default=0)

    def __post_init__(self) -> None:
        if self.meta is None:
            self.meta = HandMadeMeta(2 * self.mask.shape[1], 2 * self.mask.shape[0])

    @property
    def mask_shape(self) -> tuple[int, int]:
        height, width = self.mask.shape
        return height, width

    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> np.ndarray:
        width, height = size
        self.largest = max(self.largest, width * height)
        out = np.full((height, width), 255, np.uint8)
        part = self.mask[y_px : y_px + height * step : step, x_px : x_px + width * step : step]
        out[: part.shape[0], : part.shape[1]] = part
        return out

    def read_scores_px(
        self, class_index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1
    ) -> np.ndarray:
        out = np.full((size[1], size[0]), 255, np.uint8)
        if self.scores is not None:
            part = self.scores[class_index, y_px : y_px + size[1] * step : step, x_px : x_px + size[0] * step : step]
            out[: part.shape[0], : part.shape[1]] = part
        return out

    def read_mask(self, region: Region, size: tuple[int, int]) -> np.ndarray:
        width, height = size
        xs = (region.x_l0 + (np.arange(width) + 0.5) * region.width_l0 / width) / self.meta.scale
        ys = (region.y_l0 + (np.arange(height) + 0.5) * region.height_l0 / height) / self.meta.scale
        return self.mask[
            np.ix_(ys.astype(int).clip(0, self.mask.shape[0] - 1), xs.astype(int).clip(0, self.mask.shape[1] - 1))
        ]


def blobs(height: int, width: int, seed: int, coarse: int = 1) -> np.ndarray:
    """A random mask of all values 0–4 and 255, in squares of ``coarse`` pixels: many corners that touch."""
    rng = np.random.default_rng(seed)
    small = rng.choice([0, 1, 2, 3, 4, 255], (-(-height // coarse), -(-width // coarse))).astype(np.uint8)
    return np.kron(small, np.ones((coarse, coarse), np.uint8))[:height, :width]
