"""Slides whose pixels say where they are: red is half the column, green half the row, at every level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

WIDTH, HEIGHT = 509, 383  # odd and prime: no level divides them


def ramp(width: int, height: int, scale_x: float = 1.0, scale_y: float = 1.0) -> np.ndarray:
    """Pixel (x, y) of a level holds the level-0 position of its centre (0.5 for the first), halved to fit a byte."""
    red = (np.arange(width) + 0.5) * scale_x / 2
    green = (np.arange(height) + 0.5) * scale_y / 2
    pixels = np.zeros((height, width, 3))
    pixels[..., 0], pixels[..., 1] = red[None, :], green[:, None]
    return pixels.round().astype(np.uint8)


def write_pyramid(path: Path, levels: Sequence[np.ndarray], **options: object) -> Path:
    """A tiled TIFF that OpenSlide opens as generic-tiff."""
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(levels):
            writer.write(
                level,
                tile=(64, 64),
                photometric="rgb",
                compression="adobe_deflate",
                subfiletype=1 if number else 0,
                metadata=None,
                **(options if number == 0 else {}),
            )
    return path


def _halved(path: Path) -> Path:
    # As scanners do it: each level pixel covers exactly 2, 4, 8 pixels; what is left over at the edge is lost.
    sizes = [(WIDTH // step, HEIGHT // step, step) for step in (1, 2, 4, 8)]
    return write_pyramid(path.with_suffix(".tif"), [ramp(w, h, s, s) for w, h, s in sizes])


def _uneven(path: Path) -> Path:
    # As resizing programs do it: the level is stretched to the whole slide.
    sizes = [(WIDTH, HEIGHT), (203, 153), (70, 53)]
    return write_pyramid(path.with_suffix(".tif"), [ramp(w, h, WIDTH / w, HEIGHT / h) for w, h in sizes])


def _flat_tiff(path: Path) -> Path:
    tifffile.imwrite(path.with_suffix(".tif"), ramp(WIDTH, HEIGHT), photometric="rgb")
    return path.with_suffix(".tif")


def _png(path: Path) -> Path:
    Image.fromarray(ramp(WIDTH, HEIGHT)).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


KINDS: dict[str, Callable[[Path], Path]] = {
    "halved": _halved,
    "uneven": _uneven,
    "flat tiff": _flat_tiff,
    "png": _png,
}


@pytest.fixture(scope="session", params=sorted(KINDS))
def position_slide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 509 × 383 slide that encodes positions, once for each back end and way to make levels."""
    return KINDS[request.param](tmp_path_factory.mktemp("positions") / request.param.replace(" ", "-"))
