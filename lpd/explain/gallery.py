"""Gallery: the places on slides where each prototype is most active. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError
from lpd.explain.slide_figures import check_one_model
from lpd.explain.slide_maps import MOST_VALUES, Cells, Grid, SlideMaps
from lpd.inference.array_scores import Floats
from lpd.inference.prototype_layers import CODE_STEPS
from lpd.inference.store import ResultStore
from lpd.slide.region import Region

#: Share of a window that must be tissue with maps.
LEAST_TISSUE = 0.5
#: A window overlaps itself and eight others that begin half a window away.
_OVERLAPPING = 9


@dataclass(frozen=True)
class TopRegion:
    """A window on a slide that a prototype is active in.

    Attributes:
        slide: the name that the result was given with.
        x_l0, y_l0, width_l0, height_l0: level-0 pixels; inside the slide.
        score: mean of the prototype's map over the window's tissue: a fused cosine −1 to 1; of a linear head a logit.
    """

    slide: str
    x_l0: int
    y_l0: int
    width_l0: int
    height_l0: int
    score: float

    @property
    def region(self) -> Region:
        return Region(self.x_l0, self.y_l0, self.width_l0, self.height_l0)


def top_regions(
    stores: Sequence[tuple[str, ResultStore]],
    per_prototype: int = 8,
    per_slide: int = 2,
    *,
    most_values: int = MOST_VALUES,
) -> list[list[TopRegion]]:
    """For each prototype the windows where its map has the highest mean, over one or several slides.

    Windows are as large as the model's tiles, to a cell of the maps looked at, and begin at every half tile; at least
    half of one is tissue. On a slide the best is taken, then the best that does not overlap it, and so on. Of
    equal windows the first in the order of ``stores``, then by row and column, comes first: the same results give the
    same gallery. Memory stays flat.

    Args:
        stores: name and result of each slide, all of one checkpoint and with maps of prototypes.
        per_prototype: windows of a prototype at most, over all slides.
        per_slide: and on one slide.
        most_values: cells times prototypes that are looked at on each slide, see :meth:`SlideMaps.grid`.

    Returns:
        A list for each prototype, class-major, best window first; shorter where there is less tissue, empty for those
        that were muted, or merged into one before them, in the checkpoint.

    Raises:
        ConfigError: a number is below 1.
        ResultError: results are of several checkpoints, or one has no maps.
    """
    for name, value in (("per_prototype", per_prototype), ("per_slide", per_slide)):
        if value < 1:
            raise ConfigError(f"{name} {value} must be at least 1")
    check_one_model([store for _, store in stores])
    found: list[list[TopRegion]] = []
    for slide, store in stores:
        lists = _of_slide(slide, SlideMaps(store), min(per_slide, per_prototype), most_values)
        found = [old + new for old, new in zip(found or [[] for _ in lists], lists, strict=True)]
    return [sorted(own, key=lambda region: -region.score)[:per_prototype] for own in found]


def unit_of(store: ResultStore) -> str:
    """What scores of a result with maps are: ``cosine``, or ``logit`` of a linear head."""
    return "logit" if store.prototypes is not None and store.prototypes.maps.is_linear else "cosine"


@dataclass(frozen=True)
class _Windows:
    """(n,) row and column, in half tiles, and (n, ) score of windows."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    scores: Floats


def _of_slide(slide: str, maps: SlideMaps, most: int, most_values: int) -> list[list[TopRegion]]:
    grid = maps.grid(most_values)
    half = max(1, grid.tile // 2)
    grid = Grid(grid.first_l0, grid.step_l0, grid.columns, grid.rows, 2 * half)
    best = [_Windows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))] * maps.maps.count
    for rows, columns in grid.squares(maps.maps.count, margin=half):
        cells = maps.read(grid, rows, columns)
        if cells.tissue.any():
            best = _better(best, cells, rows.start // half, columns.start // half, half, _OVERLAPPING * most)
    counted = {m for own in maps.counted for m in own}
    chosen = [_apart(own, most) if m in counted else [] for m, own in enumerate(best)]
    unit = maps.maps.limit if maps.maps.is_linear else 1.0
    return [[_region(slide, maps, grid, row, col, unit * score) for row, col, score in own] for own in chosen]


def _better(best: list[_Windows], cells: Cells, row: int, column: int, half: int, most: int) -> list[_Windows]:
    """The ``most`` best windows so far of each prototype; greedily chosen ones that do not overlap are among them."""
    sums, counts = _window_sums(cells, half)
    y, x = np.nonzero(counts >= max(1, LEAST_TISSUE * (2 * half) ** 2))
    scores = sums[:, y, x] / counts[y, x]
    new = []
    for old, own in zip(best, scores, strict=True):
        rows, columns = np.concatenate([old.rows, row + y]), np.concatenate([old.columns, column + x])
        together = np.concatenate([old.scores, own.astype(np.float32)])
        kept = np.lexsort((columns, rows, -together))[:most]
        new.append(_Windows(rows[kept], columns[kept], together[kept]))
    return new


def _window_sums(cells: Cells, half: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sums of centred bytes (M, r, c) over windows of 2 × 2 half tiles, and their tissue cells (r, c)."""
    values = np.where(cells.tissue, cells.maps.astype(np.int16) - CODE_STEPS, 0)
    return _two_by_two(_halves(values, half)), _two_by_two(_halves(cells.tissue, half))


def _halves(planes: npt.NDArray[np.generic], half: int) -> npt.NDArray[np.int64]:
    *lead, height, width = planes.shape
    parts = planes.reshape(*lead, height // half, half, width // half, half)
    return np.asarray(parts.sum((-3, -1), dtype=np.int64))


def _two_by_two(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = sums[..., :-1, :] + sums[..., 1:, :]
    return np.asarray(rows[..., :-1] + rows[..., 1:])


def _apart(windows: _Windows, most: int) -> list[tuple[int, int, float]]:
    """Best first, those that overlap a better one left out: (row, column, score), ``most`` at most."""
    chosen: list[tuple[int, int, float]] = []
    for row, column, score in zip(windows.rows, windows.columns, windows.scores, strict=True):
        if all(abs(row - r) > 1 or abs(column - c) > 1 for r, c, _ in chosen):
            chosen.append((int(row), int(column), float(score) / CODE_STEPS))
        if len(chosen) == most:
            break
    return chosen


def _region(slide: str, maps: SlideMaps, grid: Grid, row: int, column: int, score: float) -> TopRegion:
    half_l0, meta = grid.tile // 2 * grid.step_l0, maps.store.meta
    x, y, side = round(column * half_l0), round(row * half_l0), round(2 * half_l0)
    inside = Region(x, y, side, side).clipped(meta.width_l0, meta.height_l0)
    assert inside is not None  # it has tissue
    return TopRegion(slide, inside.x_l0, inside.y_l0, inside.width_l0, inside.height_l0, score)
