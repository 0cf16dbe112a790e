"""Pixels to bytes for the browser: JPEG slide tiles, grey PNG masks, thumbnails kept on disk."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.runs import replacing
from viewers.catalog import Catalogue

_THUMBNAIL_PX = 320


def jpeg(image: npt.NDArray[np.uint8], quality: int = 82) -> bytes:
    """Encode (H, W, 3) RGB uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def grey_png(values: npt.NDArray[np.uint8]) -> bytes:
    """Encode (H, W) uint8 as 8-bit grey PNG: lossless, values unchanged."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def thumbnail_jpeg(catalogue: Catalogue, slide_id: str, cache: Path) -> bytes:
    """JPEG of the slide, at most 320 px long, from ``cache`` if the same file was asked for before.

    Raises:
        LpdError: the slide does not exist or cannot be read.
    """
    path = cache / f"{catalogue.info(slide_id).fingerprint}.jpeg"
    if path.is_file():
        return path.read_bytes()
    with catalogue.borrow(slide_id) as slide:
        data = jpeg(slide.thumbnail(_THUMBNAIL_PX))
    with suppress(OSError), replacing(path) as temporary:  # a full or read-only disk costs time, not the picture
        temporary.write_bytes(data)
    return data
