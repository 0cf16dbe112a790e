"""Slide: one whole-slide image, read at any place and scale in its level-0 frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError, MissingMppError
from lpd.slide.color import srgb_transform
from lpd.slide.levels import best_level
from lpd.slide.overview import OverviewSource, write_overview
from lpd.slide.region import Region
from lpd.slide.resampling import own_corner, read_exact, read_level
from lpd.slide.resolution import Resolution
from lpd.slide.source import Source

Pixels = npt.NDArray[np.uint8]

#: Each tile that shows this many pixels takes about half a second, and memory for none but the tile.
_OVERVIEW_PX = 50_000_000


class Slide:
    """An open slide; made by :func:`lpd.slide.opening.open_slide`. All methods may be called from any thread.

    Attributes:
        path, name: the file, and its name without the ending.
        vendor: OpenSlide's format name, or ``plain image``.
        width_l0, height_l0: size of the bounds-cropped slide at full resolution.
        origin_l0: (x, y) of its upper left corner in the file's own frame, which other tools count from.
        mpp: µm per level-0 pixel with its origin, None if nobody knows.
        fingerprint: 16 hexadecimal digits from the file's size and 16 parts of 16 KB, evenly spread from its first byte
            to its last: of files up to 256 KB, every byte. A copy under another name or of another time has the same;
            a change that keeps the size and lies between the parts goes unseen, as do further files of a format that
            has them (MRXS, DICOM).
        properties: what the file says of itself.
    """

    def __init__(
        self, path: Path, source: Source, mpp: Resolution | None, fingerprint: str, *, icc: bool = True
    ) -> None:
        self.path = path
        self.name = path.stem
        self.vendor = source.vendor
        self.width_l0 = source.bounds.width_l0
        self.height_l0 = source.bounds.height_l0
        self.origin_l0 = source.bounds.x_l0, source.bounds.y_l0
        self.mpp = mpp
        self.fingerprint = fingerprint
        self.properties = dict(source.properties)
        self._source: Source = source
        self._to_srgb = srgb_transform(source.icc_profile) if icc and source.icc_profile else None

    @property
    def region(self) -> Region:
        """The whole slide."""
        return Region(0, 0, self.width_l0, self.height_l0)

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each stored level, 1.0 first."""
        return tuple(level.scale_x for level in self._source.levels)

    @property
    def needs_overview(self) -> bool:
        """True if the coarsest level is so large that each tile of an overview, which reads all of it, takes long."""
        last = self._source.levels[-1]
        return last.width_px * last.height_px > _OVERVIEW_PX

    def write_overview(self, path: Path, report: Callable[[float], None]) -> None:
        """Write coarse copies for :meth:`add_overview`, see :func:`~lpd.slide.overview.write_overview`."""
        write_overview(self._source, path, report)

    def add_overview(self, path: Path) -> None:
        """Read what is coarse from a file by :meth:`write_overview` from now on.

        Raises:
            SlideError: the file is no overview of this slide.
            OSError: there is none, or it cannot be read.
        """
        self._source = OverviewSource(self._source, path)

    def require_mpp(self) -> float:
        """µm per level-0 pixel.

        Raises:
            MissingMppError: the file does not say and nobody gave it.
        """
        if self.mpp is None:
            raise MissingMppError(
                f"{self.path.name} has no resolution: pass --mpp (a 20x scan is usually 0.5) "
                "or type it beside the slide"
            )
        return self.mpp.value

    def read(self, region: Region, size: tuple[int, int]) -> Pixels:
        """Pixels of ``region`` at ``size``, resampled without aliasing from the nearest finer level.

        Memory is bounded by the result and a few pieces of 2048 × 2048 pixels, whatever the region.

        Args:
            region: level-0 rectangle; it may reach beyond the slide.
            size: (width, height) of the result; its pixel (i, j) shows the region's part from i / width on.

        Returns:
            uint8 (height, width, 3) RGB, sRGB colours. A pixel that lies partly outside the slide shows its edge; one
            that lies outside altogether is white.

        Raises:
            ConfigError: the size is not positive.
            SlideError: the file is damaged there.
        """
        width, height = size
        if width < 1 or height < 1:
            raise ConfigError(f"size {width} × {height} px to read a region at must be at least 1 × 1")
        x0, x1 = _inside(region.x_l0, region.width_l0, width, self.width_l0)
        y0, y1 = _inside(region.y_l0, region.height_l0, height, self.height_l0)
        result = np.empty((height, width, 3), dtype=np.uint8)
        if (x1 - x0, y1 - y0) != size:
            result[...] = 255
        if x0 < x1 and y0 < y1:
            step_x, step_y = region.width_l0 / width, region.height_l0 / height
            bounds = self._source.bounds
            corner = bounds.x_l0 + region.x_l0 + x0 * step_x, bounds.y_l0 + region.y_l0 + y0 * step_y
            extent = (x1 - x0) * step_x, (y1 - y0) * step_y
            level = best_level(self._source.levels, max(step_x, step_y))
            shown = self._pixels(level, (*corner, *extent), (x1 - x0, y1 - y0))
            if shown.shape == result.shape and shown.flags.writeable:
                return shown
            result[y0:y1, x0:x1] = shown
        return result

    def stored_jpeg(self, region: Region, size: tuple[int, int]) -> bytes | None:
        """The file's own JPEG picture of ``region``, where that shows the pixels of :meth:`read` at ``size``.

        Returns:
            A JPEG file with nothing but the picture in it. None if the file has no such tile, as at the slide's right
            and lower edge, past which tiles reach, or if colours are turned into sRGB.

        Raises:
            SlideError: the slide was closed.
        """
        if self._to_srgb is not None or not self.region.contains(region):
            return None
        bounds = self._source.bounds
        box = bounds.x_l0 + region.x_l0, bounds.y_l0 + region.y_l0, region.width_l0, region.height_l0
        level = best_level(self._source.levels, max(region.width_l0 / size[0], region.height_l0 / size[1]))
        corner = own_corner(self._source, level, box, size)
        return None if corner is None else self._source.jpeg(level, *corner, *size)

    def thumbnail(self, max_px: int) -> Pixels:
        """The whole slide, its longer side ``max_px`` long (never magnified): uint8 (h, w, 3)."""
        scale = min(1.0, max_px / max(self.width_l0, self.height_l0))
        size = max(1, round(self.width_l0 * scale)), max(1, round(self.height_l0 * scale))
        return self.read(self.region, size)

    def associated(self) -> dict[str, Pixels]:
        """Label, macro and thumbnail pictures by name, uint8 (h, w, 3), as stored; unreadable ones are left out."""
        return {name: np.asarray(image) for name, image in self._source.associated().items()}

    def close(self) -> None:
        """Free the file; later reads raise SlideError."""
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({os.fspath(self.path)!r}, {self.width_l0} × {self.height_l0}, {self.vendor})"

    def _pixels(self, level: int, box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
        if self._to_srgb is None:
            found = read_exact(self._source, level, box, size)
            if found is not None:
                return found
        return read_level(self._source, level, box, size, self._to_srgb)


def _inside(start: int, length: int, count: int, limit: int) -> tuple[int, int]:
    """First and end index of those of ``count`` pixels from ``start`` to ``start + length`` that touch [0, limit)."""
    first, end = -start * count // length, -((start - limit) * count // length)
    return max(0, min(count, first)), max(0, min(count, end))
