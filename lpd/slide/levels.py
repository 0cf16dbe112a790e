"""Level: one stored resolution of a slide, its exact scale, and which one serves a request best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: A level this little coarser than requested still serves: the difference is below what resampling loses.
_TOLERANCE = 1.01


@dataclass(frozen=True)
class Level:
    """Size of a level in its own pixels and level-0 pixels per level pixel along each axis."""

    width_px: int
    height_px: int
    scale_x: float
    scale_y: float


def make_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from their (width, height), full resolution first.

    A level made by halving loses the odd pixel at its edge, so width / width is 2.0005 where each of its pixels still
    covers exactly 2. Where rounding explains the sizes, the whole number is taken, as QuPath does; else the ratio.
    """
    width, height = sizes[0]
    return tuple(Level(w, h, *_scales((width, height), (w, h))) for w, h in sizes)


def best_level(levels: Sequence[Level], downsample: float) -> int:
    """Index of the coarsest level that is at least as fine as ``downsample``; 0 if none is."""
    fitting = [i for i, level in enumerate(levels) if max(level.scale_x, level.scale_y) <= downsample * _TOLERANCE]
    return max(fitting, key=lambda i: levels[i].scale_x, default=0)


def _scales(full: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    ratio = full[0] / size[0], full[1] / size[1]
    whole = round((ratio[0] + ratio[1]) / 2)
    if all(whole and abs(f / whole - s) < 1 for f, s in zip(full, size, strict=True)):
        return float(whole), float(whole)
    return ratio
