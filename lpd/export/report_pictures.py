"""Pictures of a report: the slide, with classes over it if wanted, outlines of regions and a scale bar, as one SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.export.scale_bar import round_length, written
from lpd.export.source import MaskSource
from lpd.slide.polygon import Polygon
from lpd.slide.region import Region

Pixels = npt.NDArray[np.uint8]

_OPACITY = 0.45
_GREY = 235
_INK = "#17222d"
#: What has not been computed is dimmed, or it would look like glass.
_DIM = 0.35


class Readable(Protocol):
    """The part of ``lpd.slide.slide.Slide`` that pictures are taken of; see there."""

    def read(self, region: Region, size: tuple[int, int]) -> Pixels: ...


@dataclass(frozen=True)
class Outline:
    """A drawn region by its number in the report."""

    number: int
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True)
class Picture:
    """An SVG element that needs no other file, and what it shows, for those who cannot see it."""

    svg: str
    text: str


def draw(
    store: MaskSource,
    slide: Readable | None,
    region: Region,
    max_px: int,
    outlines: Sequence[Outline],
    *,
    mask: bool,
    frame: Region | None = None,
) -> Picture:
    """Draw a part of a slide.

    Args:
        slide: to read from; plain grey without one.
        region: which part, level-0 pixels.
        max_px: longer side of the picture; smaller parts are not magnified.
        outlines: of regions, drawn with their numbers.
        mask: whether the classes are laid over it.
        frame: a rectangle to mark.
    """
    meta = store.meta
    shrink = min(1.0, max_px / max(region.width_l0, region.height_l0))
    size = max(1, round(region.width_l0 * shrink)), max(1, round(region.height_l0 * shrink))
    image = _background(slide, region, size)
    if mask:
        image = _overlaid(image, store.read_mask(region, size), meta.classes.palette())
    view = _View(region, size)
    marks = [view.rectangle(frame)] if frame else []
    for outline in outlines:
        marks += view.outline(outline)
    marks.append(view.scale_bar(meta.slide_mpp))
    width, height = size
    kind = "The slide" if slide else "Classes"
    text = f"{kind}{' with its classes' if slide and mask else ''}"
    svg = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text}">'
        f'<image width="{width}" height="{height}" href="{_data_uri(image)}"/>{"".join(marks)}</svg>'
    )
    return Picture(svg, text)


def _background(slide: Readable | None, region: Region, size: tuple[int, int]) -> Pixels:
    if slide is None:
        return np.full((size[1], size[0], 3), _GREY, np.uint8)
    return slide.read(region, size)


def _overlaid(image: Pixels, mask: Pixels, palette: Pixels) -> Pixels:
    background = len(palette) - 1
    out = image.astype(np.float32)
    classes = mask < background
    out[classes] += (palette[mask[classes]] - out[classes]) * np.float32(_OPACITY)
    unknown = mask > background
    out[unknown] += (np.float32(128) - out[unknown]) * np.float32(_DIM)
    return out.round().astype(np.uint8)


def _data_uri(image: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class _View:
    """From level-0 pixels to those of a picture."""

    region: Region
    size: tuple[int, int]

    @property
    def _scale(self) -> float:
        return self.size[0] / self.region.width_l0

    @property
    def _unit(self) -> float:
        """A length that is small but visible in the picture."""
        return max(self.size) / 500

    def rectangle(self, box: Region) -> str:
        x, y = (box.x_l0 - self.region.x_l0) * self._scale, (box.y_l0 - self.region.y_l0) * self._scale
        width, height = box.width_l0 * self._scale, box.height_l0 * self._scale
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        return f'<rect {place} fill="none" stroke="{_INK}" stroke-width="{2 * self._unit:.2f}" stroke-dasharray="6 4"/>'

    def outline(self, outline: Outline) -> list[str]:
        rings = [self._points(ring) for polygon in outline.polygons for ring in polygon.rings]
        path = "".join(f"M{'L'.join(f'{x:.1f} {y:.1f}' for x, y in ring)}Z" for ring in rings)
        lines = [
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width * self._unit:.2f}"/>'
            for color, width in (("#fff", 3.0), (_INK, 1.4))
        ]
        x, y = min((point for ring in rings for point in ring), key=lambda point: point[1])
        return [*lines, self._label(str(outline.number), x, y)]

    def scale_bar(self, mpp: float) -> str:
        width, height = self.size
        length_um = round_length(width / self._scale * mpp / 4)
        length, unit = length_um / mpp * self._scale, self._unit
        x, y = 10 * unit, height - 12 * unit
        plate = (
            f'<rect x="{x - 5 * unit:.1f}" y="{y - 17 * unit:.1f}" width="{length + 10 * unit:.1f}" '
            f'height="{23 * unit:.1f}" fill="#fff" fill-opacity=".85"/>'
        )
        bar = f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{2.5 * unit:.1f}" fill="{_INK}"/>'
        return f"{plate}{bar}{_text(written(length_um), x + length / 2, y - 4 * unit, 11 * unit)}"

    def _label(self, text: str, x: float, y: float) -> str:
        unit = self._unit
        x, y = min(max(x, 9 * unit), self.size[0] - 9 * unit), min(max(y, 9 * unit), self.size[1] - 9 * unit)
        disc = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{8 * unit:.1f}" fill="#fff" stroke="{_INK}" stroke-width="{unit}"/>'
        )
        return f"{disc}{_text(text, x, y + 4 * unit, 11 * unit)}"

    def _points(self, ring: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Corners in the picture, without those that lie on the one before."""
        points = (np.array(ring, np.float64) - (self.region.x_l0, self.region.y_l0)) * self._scale
        points = np.clip(points, -1e5, 1e5).round(1)
        kept = np.insert((np.diff(points, axis=0) != 0).any(axis=1), 0, values=True)
        return [(float(x), float(y)) for x, y in points[kept]]


def _text(text: str, x: float, y: float, size: float) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}"'
    return f'<text {place} text-anchor="middle" fill="{_INK}">{text}</text>'
