"""LabelImage: class indices in a slide's frame, such as a ground truth; read in parts, never interpolated."""

from __future__ import annotations

import struct
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from lpd.classes import NOT_COMPUTED
from lpd.errors import SlideError
from lpd.slide.region import Region
from lpd.slide.tissue import nearest_cells

Bytes = npt.NDArray[np.uint8]

#: Endings of the files that lie beside a slide as its ground truth.
LABEL_ENDINGS = (".mask.tif", ".mask.tiff", ".mask.png")
#: A picture without tiles is decoded as a whole.
_LARGEST_WHOLE_PX = 100_000_000
_KEPT_TILES = 64
#: What the libraries raise at a file that is damaged or of another kind.
_DAMAGE = (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error, Image.DecompressionBombError)
#: How far a picture's shape may be from the slide's: sizes are rounded.
_UNEVEN_PX = 2


def label_image_of(slide_path: Path) -> Path | None:
    """Where a slide's own ground truth lies: ``<stem>.mask.tif``, ``.tiff`` or ``.png`` beside it; None if nowhere."""
    beside = (slide_path.with_name(slide_path.stem + ending) for ending in LABEL_ENDINGS)
    return next((path for path in beside if path.is_file()), None)


def is_label_image(name: str, stems: Collection[str]) -> bool:
    """Whether a file is the ground truth of a slide beside it, and so no slide of its own; ``stems`` are all files'."""
    return any(name.endswith(ending) and name.removesuffix(ending) in stems for ending in LABEL_ENDINGS)


class LabelImage:
    """A picture of one byte a pixel, stretched over a slide; may be shared by threads.

    Attributes:
        width_px, height_px: its own size.
    """

    def __init__(self, path: Path, width_l0: int, height_l0: int) -> None:
        """Open it.

        Args:
            path: TIFF, best a tiled one, or PNG.
            width_l0, height_l0: of the slide.

        Raises:
            SlideError: it cannot be read, does not have one byte a pixel, or has another shape than the slide.
        """
        self._path = path
        self._whole: Bytes | None = None
        self._tiff: Any = None
        self._tiles: dict[int, Bytes] = {}
        self._guard = threading.Lock()
        try:
            self._open()
        except _DAMAGE as error:
            self.close()
            raise SlideError(
                f"{path.name} cannot be read as a mask ({error}): write it again as a tiled TIFF"
            ) from error
        if abs(self.width_px / width_l0 * height_l0 - self.height_px) > _UNEVEN_PX:
            self.close()
            raise SlideError(
                f"{path.name} is {self.width_px} × {self.height_px} px, which is not the shape of the slide, "
                f"{width_l0} × {height_l0} px: export it over the whole slide"
            )
        self._width_l0, self._height_l0 = width_l0, height_l0

    def read(self, region: Region, size: tuple[int, int]) -> Bytes:
        """Values in ``region`` (level 0), nearest neighbour: uint8 (h, w) for ``size`` = (w, h); 255 outside.

        Raises:
            SlideError: the file is damaged there.
        """
        width, height = size
        xs, inside_x = nearest_cells(region.x_l0, region.width_l0, width, self._width_l0, self.width_px)
        ys, inside_y = nearest_cells(region.y_l0, region.height_l0, height, self._height_l0, self.height_px)
        out = np.full((height, width), NOT_COMPUTED, np.uint8)
        columns, rows = np.flatnonzero(inside_x), np.flatnonzero(inside_y)
        if len(columns) and len(rows):
            try:
                with self._guard:
                    out[np.ix_(rows, columns)] = self._pick(ys[rows], xs[columns])
            except _DAMAGE as error:
                raise SlideError(f"{self._path.name} is damaged ({error}): write it again") from error
        return out

    def close(self) -> None:
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None

    def __enter__(self) -> LabelImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        if self._path.suffix.lower() != ".png":
            self._tiff = tifffile.TiffFile(self._path)
            page = self._tiff.pages[0]
            if page.dtype != np.uint8 or page.ndim != 2:
                raise ValueError(f"it has {page.dtype} of shape {page.shape}, not one byte a pixel")
            self.height_px, self.width_px = page.shape
            if not page.is_tiled:
                self._check_whole()
                self._whole = page.asarray()
            return
        with Image.open(self._path) as image:
            self.width_px, self.height_px = image.size
            if image.mode not in ("L", "P"):
                raise ValueError(f"its pixels are {image.mode}, not one byte each")
            self._check_whole()
            self._whole = np.asarray(image)

    def _check_whole(self) -> None:
        if self.width_px * self.height_px > _LARGEST_WHOLE_PX:
            raise ValueError(f"{self.width_px} × {self.height_px} px in one piece")

    def _pick(self, ys: npt.NDArray[np.int64], xs: npt.NDArray[np.int64]) -> Bytes:
        if self._whole is not None:
            return self._whole[np.ix_(ys, xs)]
        page = self._tiff.pages[0]
        out = np.empty((len(ys), len(xs)), np.uint8)
        across = -(-self.width_px // page.tilewidth)
        for row in np.unique(ys // page.tilelength):
            inside_y = np.flatnonzero(ys // page.tilelength == row)
            for column in np.unique(xs // page.tilewidth):
                inside_x = np.flatnonzero(xs // page.tilewidth == column)
                tile = self._tile(int(row * across + column))
                local = np.ix_(ys[inside_y] - row * page.tilelength, xs[inside_x] - column * page.tilewidth)
                out[np.ix_(inside_y, inside_x)] = tile[local]
        return out

    def _tile(self, index: int) -> Bytes:
        if index not in self._tiles:
            page = self._tiff.pages[0]
            handle = self._tiff.filehandle
            handle.seek(page.dataoffsets[index])
            values, _, _ = page.decode(handle.read(page.databytecounts[index]), index)
            tile = np.full((page.tilelength, page.tilewidth), NOT_COMPUTED, np.uint8)
            if values is not None:  # a tile of nothing takes no bytes
                found = np.asarray(values).reshape(values.shape[-3:-1])
                tile[: found.shape[0], : found.shape[1]] = found
            while len(self._tiles) >= _KEPT_TILES:
                self._tiles.pop(next(iter(self._tiles)))
            self._tiles[index] = tile
        return self._tiles[index]
