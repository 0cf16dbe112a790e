"""Pixels to bytes for the browser: JPEG slide tiles, grey PNG masks."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image


def jpeg(image: npt.NDArray[np.uint8], quality: int = 82) -> bytes:
    """Encode (H, W, 3) RGB uint8 as JPEG, colours at half the resolution."""
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return encoded


def grey_png(values: npt.NDArray[np.uint8]) -> bytes:
    """Encode (H, W) uint8 as 8-bit grey PNG: lossless, values unchanged."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
