"""ArraySource: pixels in memory as a slide of one level, for what is measured on a tile as it is on a slide."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.errors import ShapeError
from lpd.slide.levels import Level
from lpd.slide.region import Region


class ArraySource:
    """See :class:`lpd.slide.source.Source`.

    Raises:
        ShapeError: the pixels are not (H, W, 3) uint8.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ShapeError(f"pixels are {pixels.shape} {pixels.dtype}, not (H, W, 3) uint8 RGB")
        height, width = pixels.shape[:2]
        self.vendor = "pixels in memory"
        self.levels: tuple[Level, ...] = (Level(width, height, 1.0, 1.0),)
        self.bounds = Region(0, 0, width, height)
        self.properties: dict[str, str] = {}
        self.icc_profile: bytes | None = None
        self._pixels = pixels

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        assert level == 0
        return Image.fromarray(self._pixels[y : y + height, x : x + width])

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8] | None:
        return self._pixels[y : y + height, x : x + width].copy()

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        return None

    def associated(self) -> dict[str, Image.Image]:
        return {}

    def close(self) -> None:
        pass
