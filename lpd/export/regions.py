"""Connected regions of a mask that is never held in memory: labelled block by block, joined across the seams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from lpd.export.cells import Block, CellGrid
from lpd.export.rings import RegionNumbers
from lpd.export.source import Mask

Numbers = npt.NDArray[np.int32]
Edge = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Regions:
    """All 4-connected regions of equal class, numbered from 0 in the order in which blocks meet them.

    Attributes:
        value: (R,) uint8, each region's class.
        cells: (R,) int64, its number of cells.
    """

    value: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.int64]
    _class_count: int
    _first: dict[Block, int]
    _region: Numbers  # of each block's labels, which are counted on from block to block

    def holds_any(self, block: Block) -> bool:
        """True if a region reaches into ``block``."""
        return block in self._first

    def numbers(self, block: Block, values: Mask, keep: npt.NDArray[np.bool_]) -> RegionNumbers:
        """Region of every cell of a block of the grid, −1 for none: (height, width), made where it is asked for.

        Args:
            values: the block's mask values.
            keep: (R,), which regions count.
        """
        found = _label(values, self._class_count)
        first = self._first[block]
        of_label = np.full(len(found.value) + 1, -1, np.int32)
        of_label[1:] = self._region[first : first + len(found.value)]
        of_label[1:][~keep[of_label[1:]]] = -1
        return found.spread(of_label)


def find_regions(grid: CellGrid, class_count: int) -> Regions:
    """Label the whole grid, one pass over its blocks.

    Beside one block, this keeps a row of labels and four numbers per label.

    Args:
        class_count: values from here on belong to no region.
    """
    seams = _Seams(grid.shape[1])
    first: dict[Block, int] = {}
    values, sizes, total = [np.empty(0, np.uint8)], [np.empty(0, np.int64)], 0
    for block in grid.blocks():
        picture = grid.read(block)
        found = _label(picture, class_count)
        count = len(found.value)
        # No label is −1, the first one of the block goes on counting from the blocks before.
        seams.join(block, picture, found, np.append(np.int64(-1), np.arange(total, total + count)))
        if count:
            first[block] = total
            values.append(found.value)
            sizes.append(found.cells)
            total += count
    count, region = seams.regions(total)
    value_of = np.empty(count, np.uint8)
    value_of[region] = np.concatenate(values)
    cells = np.bincount(region, weights=np.concatenate(sizes), minlength=count).astype(np.int64)
    return Regions(value_of, cells, class_count, first, region)


@dataclass(frozen=True, eq=False)
class _Labels:
    """4-connected regions within one block, labelled from 1 on, class by class; 0 is no class.

    Attributes:
        value: (L,) class of each label, from label 1 on.
        cells: (L,) how many cells it has.
    """

    value: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.int64]
    _run: Numbers  # (h, w), which run of equal cells along its row a cell is in
    _label: Numbers  # of each run

    def spread(self, of_label: npt.NDArray[Any]) -> _Spread:
        """What ``of_label`` (L + 1,) says of the label of each cell, (h, w)."""
        return _Spread(self._run, of_label[self._label])


@dataclass(frozen=True, eq=False)
class _Spread:
    """An array (h, w) of values given by run, of which few are looked at."""

    _run: Numbers
    _of_run: npt.NDArray[Any]

    def __getitem__(self, where: Any, /) -> Any:
        return self._of_run[self._run[where]]


def _label(values: Mask, class_count: int) -> _Labels:
    begins = np.ones(values.shape, np.bool_)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=values.size)
    run = np.repeat(np.arange(len(first), dtype=np.int32), lengths)
    # Of two runs that touch, one begins where they first do.
    touch = (values[1:] == values[:-1]) & (begins[1:] | begins[:-1]) & (values[1:] < class_count)
    above = np.flatnonzero(touch)
    part, value = _parts(run[above], run[above + values.shape[1]], values.ravel()[first])
    order = np.argsort(value, kind="stable")
    count = int(np.count_nonzero(value < class_count))
    label_of = np.zeros(len(value), np.int32)
    label_of[order[:count]] = np.arange(1, count + 1)
    cells = np.bincount(label_of[part], weights=lengths, minlength=count + 1)[1:].astype(np.int64)
    return _Labels(value[order[:count]], cells, run.reshape(values.shape), label_of[part])


def _parts(one: Numbers, other: Numbers, value: Mask) -> tuple[Numbers, Mask]:
    """Which connected part each run belongs to, and each part's value, given the pairs of runs that touch."""
    shape = len(value), len(value)
    graph = sparse.coo_matrix((np.ones(len(one), np.bool_), (one, other)), shape=shape)
    count, part = csgraph.connected_components(graph, directed=False)
    value_of = np.empty(count, np.uint8)
    value_of[part] = value
    return part, value_of


class _Seams:
    """Remembers the labels along the last blocks' lower and right edges, and which labels touch across them."""

    def __init__(self, columns: int) -> None:
        self._above = np.full(columns, -1, np.int64)
        self._above_value = np.zeros(columns, np.uint8)
        self._left = np.empty(0, np.int64)
        self._left_value = np.empty(0, np.uint8)
        self._pairs = [np.empty((0, 2), np.int64)]

    def join(self, block: Block, values: Mask, found: _Labels, of_label: Edge) -> None:
        """Note which of a block's labels, counted as ``of_label`` says, go on from the blocks above and to its left."""
        across, numbers = slice(block.x, block.x + block.width), found.spread(of_label)
        self._touch(self._above[across], self._above_value[across], numbers[0], values[0])
        if block.x > 0:
            self._touch(self._left, self._left_value, numbers[:, 0], values[:, 0])
        self._above[across], self._above_value[across] = numbers[-1], values[-1]
        self._left, self._left_value = numbers[:, -1], values[:, -1].copy()

    def _touch(self, one: Edge, one_value: Mask, other: Edge, other_value: Mask) -> None:
        same = (one >= 0) & (other >= 0) & (one_value == other_value)
        if same.any():
            self._pairs.append(np.unique(np.stack([one[same], other[same]], 1), axis=0))

    def regions(self, total: int) -> tuple[int, Numbers]:
        """How many regions ``total`` labels make, and the region of each."""
        pairs = np.concatenate(self._pairs)
        graph = sparse.coo_matrix((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(total, total))
        if total == 0:
            return 0, np.empty(0, np.int32)
        count, region = csgraph.connected_components(graph, directed=False)
        return int(count), region.astype(np.int32)
