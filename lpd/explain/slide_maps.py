"""SlideMaps: all prototypes' stored maps over a slide, square by square, with the mask's classes. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lpd.errors import ResultError
from lpd.inference.array_scores import Flags, Floats
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import CODE_STEPS, PrototypeMaps, code
from lpd.inference.pyramid import Bytes
from lpd.inference.store import ResultStore

#: Values looked at on one slide, cells times prototypes: 2.2 million cells of 9 maps, half a million of 40. Where there
#: are more, every second, fourth … cell is taken along both axes.
MOST_VALUES = 20_000_000
#: Bytes of maps that a square holds, and cells of tiles along its side: memory stays flat whatever the slide.
_SQUARE_BYTES, _MOST_TILES = 4_000_000, 16
#: Cells along a tile's side where maps are that coarse.
_LEAST_TILE = 7


@dataclass(frozen=True)
class Grid:
    """Places on a slide at equal distances, the middles of cells.

    Attributes:
        first_l0: level-0 x of the first column, and y of the first row.
        step_l0: distance of neighbours, level-0 pixels.
        columns, rows: how many.
        tile: cells along the side of a tile of the model's size.
    """

    first_l0: float
    step_l0: float
    columns: int
    rows: int
    tile: int

    def squares(self, maps: int, margin: int = 0) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of squares of whole tiles, row by row; the last ones reach past the grid.

        Args:
            maps: how many are read of each.
            margin: further cells to the right and below, which the next squares begin with.
        """
        side = int(math.sqrt(_SQUARE_BYTES / maps)) // self.tile
        side = self.tile * max(1, min(side, _MOST_TILES))
        for top in range(0, self.rows, side):
            for left in range(0, self.columns, side):
                yield slice(top, top + side + margin), slice(left, left + side + margin)

    def places_l0(self, cells: slice) -> npt.NDArray[np.float64]:
        """Level-0 x of some columns, or y of some rows."""
        return self.first_l0 + self.step_l0 * np.arange(cells.start, cells.stop)


@dataclass(frozen=True)
class Cells:
    """A square of cells.

    Attributes:
        maps: (M, h, w) uint8, 0–254 for fused cosines −1 … 1, 255 not computed.
        mask: (h, w) uint8, 0 … C−1 classes, C background, 255 not computed.
        tissue: (h, w) bool, where a class is and maps are.
    """

    maps: Bytes
    mask: Bytes
    tissue: Flags


class SlideMaps:
    """All prototypes' maps of one result.

    A prototype's map is its logit over the network's scales, fused as the mask's are, divided by the highest that it
    can have: the mean cosine of the scales, weighted as the checkpoint weights them. What the slide's own prototypes
    add is not in it. Where the checkpoint has some merged, the first of them has the mean of their maps.

    Attributes:
        store: of the result.
        maps: layers and code.
        codes: of the classes; prototype m belongs to class ``m // maps.per_class``.
        counted: for each class the numbers of the prototypes that count: neither muted in the checkpoint nor merged
            into one before them.
    """

    def __init__(self, store: ResultStore) -> None:
        """Of a result that has such maps.

        Raises:
            ResultError: it has none.
        """
        if store.prototypes is None:
            raise ResultError(f"{store.folder} has no maps of prototypes: segment the slide with --prototype-maps")
        self.store = store
        self.maps: PrototypeMaps = store.prototypes.maps
        self.codes = store.meta.classes.codes
        self.counted = tuple(tuple(sorted(min(group) for group in own)) for own in self.maps.groups)
        self._merged = [sorted(group) for own in self.maps.groups for group in own if len(group) > 1]
        self._prototypes = store.prototypes

    @property
    def tile_px(self) -> int:
        """Side of the tiles that the model was trained on, mask pixels."""
        return 2 * CELL_PX * self.maps.gate_reach

    def grid(self, most_values: int = MOST_VALUES) -> Grid:
        """Every cell of the finest map if that makes at most so many values, else every 2nd, 4th … along both axes."""
        stride, scale = self.maps.finest.stride_px, self.store.meta.scale
        width, height = self.store.meta.mask_size
        step = stride
        while self.maps.count * -(-width // step) * -(-height // step) > most_values and step < max(width, height):
            step *= 2
        return Grid(
            first_l0=(stride // 2 + 0.5) * scale,  # inside of the pixel right of the middle
            step_l0=step * scale,
            columns=-(-width // step),
            rows=-(-height // step),
            tile=max(_LEAST_TILE, self.tile_px // step),
        )

    def read(self, grid: Grid, rows: slice, columns: slice) -> Cells:
        """Maps and mask at some places of a grid, which may be another result's of this slide.

        Raises:
            ResultError: the files cannot be read.
        """
        scale = self.store.meta.scale
        ys, xs = (np.floor(grid.places_l0(s) / scale).astype(np.int64) for s in (rows, columns))
        step = grid.step_l0 / scale
        try:
            maps = self._fused(ys, xs, step)
            for group in self._merged:
                maps[group[0]] = np.rint(maps[group].mean(0))
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise ResultError(f"{self.store.folder} cannot be read ({error}): segment the slide again") from error
        # Half the step: the level that still holds the pixel in the middle of a cell.
        mask = self.store.sample_mask(ys, xs, step / 2)
        return Cells(maps, mask, (mask < self.store.meta.classes.background) & (maps[0] <= 2 * CODE_STEPS))

    def _fused(self, ys: npt.NDArray[np.int64], xs: npt.NDArray[np.int64], step: float) -> Bytes:
        layers = self.maps.pixel_layers
        parts = [
            self._prototypes.read(
                layer, slice(None), ys // layer.stride_px, xs // layer.stride_px, step / layer.stride_px
            )
            for layer in layers
        ]
        if len(layers) == 1:
            return parts[0]
        logits = sum(layer.weight * layer.logits(part) for layer, part in zip(layers, parts, strict=True))
        return code(np.asarray(logits, dtype=np.float32), self.maps.limit)


def cosines(maps: Bytes) -> Floats:
    """Fused cosines −1 … 1 of computed bytes."""
    return np.asarray(maps.astype(np.float32) / CODE_STEPS - 1)


def class_slice(index: int, per_class: int) -> slice:
    """Numbers of a class's prototypes."""
    return slice(index * per_class, (index + 1) * per_class)
