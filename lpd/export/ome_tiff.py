"""The label mask as a pyramidal OME-TIFF with palette, for QuPath, Fiji, napari and OpenSlide."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.errors import ResultError
from lpd.export.source import Mask, MaskSource
from lpd.runs import replacing

_TILE_PX = 512
_SMALLEST_PX = 512  # levels are added until the longer side is at most this


def write_ome_tiff(store: MaskSource, path: Path, *, unknown: str = "not computed") -> None:
    """Write the mask, uint8: 0 … C−1 classes, C background, 255 not computed, with the names as OME map annotation.

    Levels of downsample 2, 4, … follow as SubIFDs; pixel i of a level is pixel i · 2^k of the mask, so that every
    level holds true labels. Tiles of 512 px, deflate; the physical pixel size is the mask's µm per pixel. Each level is
    read from the store's own of that downsample, tile by tile; memory does not grow with the mask.

    Args:
        unknown: what 255 is called.

    Raises:
        ResultError: the file cannot be written.
    """
    height, width = store.mask_shape
    steps = _steps(height, width)
    try:
        # BigTIFF only where needed: labels deflate to far less than their raw size.
        with (
            replacing(path) as temporary,
            tifffile.TiffWriter(temporary, ome=True, bigtiff=height * width > 2**33) as tiff,
        ):
            for step in steps:
                pixel_um = store.meta.mask_mpp * step
                tiff.write(
                    map(_deflated, _tiles(store, step)),
                    shape=(-(-height // step), -(-width // step)),
                    dtype=np.uint8,
                    tile=(_TILE_PX, _TILE_PX),
                    photometric="palette",
                    colormap=_colormap(store.meta.classes),
                    compression="zlib",
                    resolution=(1e4 / pixel_um, 1e4 / pixel_um),
                    resolutionunit="CENTIMETER",
                    **(_first(store, len(steps) - 1, unknown) if step == 1 else {"subfiletype": 1}),
                )
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _steps(height: int, width: int) -> list[int]:
    steps = [1]
    while max(height, width) > _SMALLEST_PX * steps[-1]:
        steps.append(2 * steps[-1])
    return steps


def _tiles(store: MaskSource, step: int) -> Iterator[Mask]:
    """Every ``step``-th pixel of the mask, in tiles of 512 px, row by row; the last ones are filled up with 255."""
    height, width = store.mask_shape
    side = _TILE_PX * step
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield store.read_mask_px(x, y, (_TILE_PX, _TILE_PX), step)


def _deflated(tile: Mask) -> bytes:
    """A tile for the file. Labels come in runs: looking for these alone takes a quarter of the time and less room."""
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    return deflate.compress(tile.tobytes()) + deflate.flush()


def _colormap(classes: ClassScheme) -> npt.NDArray[np.uint16]:
    """(3, 256) TIFF palette; values that have no meaning, and 255, are mid-grey."""
    colors = np.full((256, 3), 128, np.uint16)
    palette = classes.palette()
    colors[: len(palette)] = palette
    return np.ascontiguousarray(colors.T * np.uint16(257))


def _first(store: MaskSource, levels_below: int, unknown: str) -> dict[str, Any]:
    meta = store.meta
    names = {str(value): c.name for value, c in enumerate(meta.classes.classes)}
    names |= {str(meta.classes.background): "background", str(NOT_COMPUTED): unknown}
    about = f"LPD label mask of {meta.slide_name} by {meta.checkpoint_name}. {meta.notice}".strip()
    size = {f"PhysicalSize{axis}": meta.mask_mpp for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    metadata = {"axes": "YX", "Name": meta.slide_name, "Description": about, "MapAnnotation": names, **size, **units}
    return {"subifds": levels_below, "metadata": metadata}
