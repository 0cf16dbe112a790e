"""Tissue pieces: the separate pieces of tissue on a slide, numbered as one reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from lpd.slide.region import Region
from lpd.slide.tissue import TissueMask, nearest_cells

Numbers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

#: Tissue that hangs together is a piece of its own from this area on, however near another one is: serial sections
#: and the cores of a tissue array lie closer to one another than torn-off scraps to their section.
_PIECE_UM2 = 50_000.0
#: Scraps below it belong to the nearest piece if it is no farther than this, else to scraps as near as this, which
#: together may make a piece (a biopsy in crumbs); what is still smaller is left out.
_NEAR_UM = 200.0
#: In a picture as small as a tile, what covers more than this part of it is a piece.
_PIECE_SHARE = 0.02
#: Scale that is assumed where nobody knows the resolution: a cell of the usual tissue mask.
_CELL_UM_UNKNOWN = 8.0
_EIGHT = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class Piece:
    """One piece of tissue, as the coarse tissue mask shows it: its margin and small holes included.

    Attributes:
        number: from 1 on.
        region: the rectangle around it, level-0 pixels.
        center_l0: (x, y) of its centre of gravity, level-0 pixels.
        area_mm2: its area; None if the resolution is unknown.
    """

    number: int
    region: Region
    center_l0: tuple[float, float]
    area_mm2: float | None


@dataclass(frozen=True, eq=False)
class TissuePieces:
    """All pieces of a slide.

    Attributes:
        pieces: in the order of their numbers, which are 1, 2, 3 …
        tissue: the mask they were found in.
    """

    pieces: tuple[Piece, ...]
    tissue: TissueMask
    _numbers: Numbers  # of each of the mask's cells, 0 for none

    def read(self, region: Region, size: tuple[int, int]) -> Numbers:
        """Numbers over ``region`` (level 0) at ``size`` (width, height): int32 (h, w), 0 for none.

        As :meth:`TissueMask.read`: nearest to each pixel's centre; memory goes with ``size`` alone.
        """
        rows, columns = self._numbers.shape
        xs, inside_x = nearest_cells(region.x_l0, region.width_l0, size[0], self.tissue.width_l0, columns)
        ys, inside_y = nearest_cells(region.y_l0, region.height_l0, size[1], self.tissue.height_l0, rows)
        return np.where(inside_y[:, None] & inside_x[None, :], self._numbers[np.ix_(ys, xs)], np.int32(0))

    def at(self, x_l0: Floats, y_l0: Floats) -> Numbers:
        """Numbers at the crossings of columns ``x_l0`` (w,) and rows ``y_l0`` (h,), level-0 places: int32 (h, w).

        Beyond the slide's edge the numbers are those at the edge.
        """
        rows, columns = self._numbers.shape
        xs = np.floor(x_l0 * (columns / self.tissue.width_l0)).astype(np.int64).clip(0, columns - 1)
        ys = np.floor(y_l0 * (rows / self.tissue.height_l0)).astype(np.int64).clip(0, rows - 1)
        found: Numbers = self._numbers[np.ix_(ys, xs)]
        return found


def find_pieces(tissue: TissueMask) -> TissuePieces:
    """Find and number the pieces of a tissue mask.

    Cells that touch, by a corner at least, hang together. What hangs together over 0.05 mm² or more is a piece. Smaller
    scraps join the nearest piece within 0.2 mm, or one another; where they stay below 0.05 mm² they are left out.

    Numbers go as one reads: the uppermost piece begins a row, to which all belong that stand beside it for at least
    half the height of the lower one; each row from left to right, then the next.
    """
    cell_um = _cell_um(tissue)
    labels, count = ndimage.label(tissue.mask, _EIGHT)
    smallest = min(_PIECE_UM2 / (cell_um[0] * cell_um[1]), _PIECE_SHARE * tissue.mask.size)
    labels = _joined(labels, count, smallest, cell_um)
    boxes = ndimage.find_objects(labels)
    found = [label for label, box in enumerate(boxes, 1) if box is not None]
    order = _reading_order({label: boxes[label - 1] for label in found})
    number_of = np.zeros(len(boxes) + 1, np.int32)
    number_of[order] = np.arange(1, len(order) + 1)
    numbers = number_of[labels]
    pieces = tuple(_piece(n, numbers, boxes[label - 1], tissue) for n, label in enumerate(order, 1))
    return TissuePieces(pieces, tissue, numbers)


def _cell_um(tissue: TissueMask) -> tuple[float, float]:
    """(height, width) of a cell in µm."""
    if tissue.mpp is None:
        return _CELL_UM_UNKNOWN, _CELL_UM_UNKNOWN
    rows, columns = tissue.mask.shape
    return tissue.height_l0 / rows * tissue.mpp, tissue.width_l0 / columns * tissue.mpp


def _joined(labels: Numbers, count: int, smallest: float, cell_um: tuple[float, float]) -> Numbers:
    """Labels with scraps joined to what is near, and 0 where even so they are too small."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = sizes >= smallest
    large[0] = False
    becomes = np.where(large, np.arange(count + 1), 0)
    pairs = []
    boxes = ndimage.find_objects(labels)
    for scrap in (np.flatnonzero(~large[1:]) + 1).tolist():
        near = _near(labels, scrap, boxes[scrap - 1], cell_um)
        to = next((label for label in near if large[label]), 0)
        becomes[scrap] = to
        pairs += [] if to else [(scrap, other) for other in near]
    alone = becomes == 0
    pairs = [(one, other) for one, other in pairs if alone[other]]
    ones, others = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = sparse.coo_matrix((np.ones(len(ones), np.bool_), (ones, others)), shape=(count + 1, count + 1))
    _, group = csgraph.connected_components(graph, directed=False)
    area = np.bincount(group, weights=np.where(alone, sizes, 0))
    becomes[alone] = np.where(area[group] >= smallest, group + count + 1, 0)[alone]
    becomes[0] = 0
    joined: Numbers = becomes.astype(np.int32)[labels]
    return joined


def _near(labels: Numbers, scrap: int, box: tuple[slice, slice], cell_um: tuple[float, float]) -> list[int]:
    """Other labels within 0.2 mm of a scrap, the nearest first."""
    margins = [math.ceil(_NEAR_UM / um) for um in cell_um]
    window = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(box, margins, strict=True))
    around = labels[window]
    away = ndimage.distance_transform_edt(around != scrap, sampling=cell_um)
    others = np.unique(around[(around > 0) & (around != scrap) & (away <= _NEAR_UM)])
    distances = ndimage.minimum(away, around, others) if len(others) else []
    return [label for _, label in sorted(zip(distances, others.tolist(), strict=True))]


def _reading_order(boxes: dict[int, tuple[slice, slice]]) -> list[int]:
    """Labels in the order in which one reads."""
    waiting = sorted(boxes, key=lambda label: (boxes[label][0].start, boxes[label][1].start, label))
    order: list[int] = []
    while waiting:
        first = boxes[waiting[0]][0]
        row = [label for label in waiting if _beside(boxes[label][0], first)]
        order += sorted(row, key=lambda label: (boxes[label][1].start, boxes[label][0].start, label))
        waiting = [label for label in waiting if label not in row]
    return order


def _beside(one: slice, other: slice) -> bool:
    common: int = min(one.stop, other.stop) - max(one.start, other.start)
    lower: int = min(one.stop - one.start, other.stop - other.start)
    return 2 * common >= lower


def _piece(number: int, numbers: Numbers, box: tuple[slice, slice], tissue: TissueMask) -> Piece:
    rows, columns = numbers.shape
    wide, high = tissue.width_l0 / columns, tissue.height_l0 / rows
    ys, xs = np.nonzero(numbers[box] == number)
    center = float((xs.mean() + box[1].start + 0.5) * wide), float((ys.mean() + box[0].start + 0.5) * high)
    left, top = box[1].start * tissue.width_l0 // columns, box[0].start * tissue.height_l0 // rows
    right, bottom = -(-box[1].stop * tissue.width_l0 // columns), -(-box[0].stop * tissue.height_l0 // rows)
    area = None if tissue.mpp is None else len(xs) * wide * high * (tissue.mpp / 1000) ** 2
    return Piece(number, Region(left, top, right - left, bottom - top), center, area)
