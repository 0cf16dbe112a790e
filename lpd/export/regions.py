"""Connected regions of a mask that is never held in memory: labelled block by block, joined across the seams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from lpd.export.cells import Block, CellGrid
from lpd.export.source import Mask

Labels = npt.NDArray[np.int32]
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

    def numbers(self, block: Block, values: Mask) -> Numbers:
        """Region of every cell of a block of the grid, −1 for none: (height, width).

        Args:
            values: the block's mask values.
        """
        labels, _ = _label(values, self._class_count)
        first = self._first[block]
        of_label = np.full(int(labels.max(initial=0)) + 1, -1, np.int32)
        of_label[1:] = self._region[first : first + len(of_label) - 1]
        return of_label[labels]


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
        labels, value = _label(picture, class_count)
        seams.join(block, picture, np.where(labels > 0, labels + np.int64(total - 1), -1))
        if len(value):
            first[block] = total
            values.append(value)
            sizes.append(np.bincount(labels.ravel(), minlength=len(value) + 1)[1:])
            total += len(value)
    count, region = seams.regions(total)
    value_of = np.empty(count, np.uint8)
    value_of[region] = np.concatenate(values)
    cells = np.bincount(region, weights=np.concatenate(sizes), minlength=count).astype(np.int64)
    return Regions(value_of, cells, class_count, first, region)


def _label(values: Mask, class_count: int) -> tuple[Labels, npt.NDArray[np.uint8]]:
    """4-connected regions within one block: labels from 1 on, 0 for no class, and the class of each label."""
    labels = np.zeros(values.shape, np.int32)
    of: list[int] = []
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=class_count)[:class_count]):
        where = values == value
        own, count = ndimage.label(where)
        labels[where] = own[where] + len(of)
        of += [int(value)] * count
    return labels, np.array(of, np.uint8)


class _Seams:
    """Remembers the labels along the last blocks' lower and right edges, and which labels touch across them."""

    def __init__(self, columns: int) -> None:
        self._above = np.full(columns, -1, np.int64)
        self._above_value = np.zeros(columns, np.uint8)
        self._left = np.empty(0, np.int64)
        self._left_value = np.empty(0, np.uint8)
        self._pairs = [np.empty((0, 2), np.int64)]

    def join(self, block: Block, values: Mask, labels: npt.NDArray[np.int64]) -> None:
        """Note which of a block's labels (−1 for none) go on from the blocks above it and to its left."""
        across = slice(block.x, block.x + block.width)
        self._touch(self._above[across], self._above_value[across], labels[0], values[0])
        if block.x > 0:
            self._touch(self._left, self._left_value, labels[:, 0], values[:, 0])
        self._above[across], self._above_value[across] = labels[-1], values[-1]
        self._left, self._left_value = labels[:, -1].copy(), values[:, -1].copy()

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
