"""Outlines of all regions of a mask, in memory that does not grow with the mask: pieces wait in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from lpd.export.cells import CellGrid
from lpd.export.junctions import Junctions
from lpd.export.regions import Regions, find_regions
from lpd.export.rings import Chain, Points, border_chains, doubled_area, simple_rings, without_straight_corners
from lpd.export.scores import RegionScores

_BYTES = 8  # of a corner in the file: two int32


@dataclass(frozen=True, eq=False)
class Outline:
    """One region.

    Attributes:
        value: its class.
        cells: how many cells it has.
        exterior: (N, 2) corners (x, y) in cell edges, clockwise on the screen, the first one the uppermost of the
            leftmost and repeated at the end.
        holes: the same, counter-clockwise.
        score: mean score of its class over the region, 0–1; None if unknown.
    """

    value: int
    cells: int
    exterior: Points
    holes: tuple[Points, ...]
    score: float | None = None


def outlines(
    grid: CellGrid, class_count: int, min_cells: float, folder: Path, junctions: Junctions | None = None
) -> Iterator[Outline]:
    """Outline every 4-connected region of at least ``min_cells``, class by class.

    Polygons have exactly the area of their cells. Rings are simple: where one would touch itself at a corner it is
    split there into a ring and a hole, as the simple-features standard asks. Memory holds one block, one region's
    outline, and a few numbers for each region and each border that crosses a seam between blocks.

    Args:
        class_count: mask values from here on are no region.
        folder: for a temporary file, deleted in the end.
        junctions: to be filled with the points where borders meet, before the first outline comes.

    Raises:
        OSError: the temporary file cannot be written.
    """
    regions = find_regions(grid, class_count)
    keep, scores = regions.cells >= min_cells, RegionScores(len(regions.cells))
    with _Pieces(folder) as pieces:
        for block in grid.blocks():
            if not regions.holds_any(block):
                continue
            framed = grid.read(block.grown(1))
            numbers = regions.numbers(block, framed[1:-1, 1:-1], keep)
            pieces.add(border_chains(framed, numbers, block.x, block.y))
            scores.add(grid, block, framed[1:-1, 1:-1], numbers)
            if junctions is not None:
                junctions.add(framed, block.x, block.y)
        yield from _assembled(pieces, regions, scores)


class _Pieces:
    """Chains, their corners in a file and where to find them in memory."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".outlines-")  # noqa: SIM115  closed by __exit__
        self._corners = 0
        self._blocks: list[npt.NDArray[np.int64]] = [np.empty((0, 5), np.int64)]

    def __enter__(self) -> _Pieces:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, chains: Iterator[Chain]) -> None:
        """Keep a block's chains."""
        rows = []
        for chain in chains:
            self._file.write(chain.corners[:-1].astype(np.int32).tobytes())
            count = len(chain.corners) - 1
            rows.append((chain.region, self._corners, count, chain.begins, chain.goes_on))
            self._corners += count
        if rows:
            self._blocks.append(np.array(rows, np.int64))

    def rings_by_region(self) -> Iterator[tuple[int, list[Points]]]:
        """Each region and its closed walks, without repeated first corner; in order of region."""
        region, offset, count, begins, goes_on = np.concatenate(self._blocks).T
        self._blocks.clear()
        order = np.argsort(begins)
        following = order[np.searchsorted(begins, goes_on, sorter=order)].tolist()
        by_region = np.argsort(region, kind="stable")
        for group in np.split(by_region, np.flatnonzero(np.diff(region[by_region])) + 1):
            if len(group):
                yield int(region[group[0]]), [self._ring(walk, offset, count) for walk in _cycles(group, following)]

    def _ring(self, walk: list[int], offset: npt.NDArray[np.int64], count: npt.NDArray[np.int64]) -> Points:
        parts = []
        for piece in walk:
            self._file.seek(int(offset[piece]) * _BYTES)
            parts.append(np.frombuffer(self._file.read(int(count[piece]) * _BYTES), np.int32).reshape(-1, 2))
        ring = np.concatenate(parts).astype(np.int64)
        return ring if len(walk) == 1 else without_straight_corners(ring)


def _cycles(group: npt.NDArray[np.int64], following: list[int]) -> Iterator[list[int]]:
    done: set[int] = set()
    for first in group.tolist():
        walk = []
        piece = first
        while piece not in done:
            walk.append(piece)
            done.add(piece)
            piece = following[piece]
        if walk:
            yield walk


def _assembled(pieces: _Pieces, regions: Regions, scores: RegionScores) -> Iterator[Outline]:
    for region, walks in pieces.rings_by_region():
        rings = [ring for walk in walks for ring in simple_rings(walk)]
        exterior = max(rings, key=doubled_area)
        holes = tuple(_from_first(ring) for ring in rings if ring is not exterior)
        value, cells = int(regions.value[region]), int(regions.cells[region])
        yield Outline(value, cells, _from_first(exterior), holes, scores.mean(region))


def _from_first(ring: Points) -> Points:
    """The same closed ring, begun at the uppermost of its leftmost corners, wherever the blocks' seams fell."""
    x, y = ring[:-1].T
    leftmost = np.flatnonzero(x == x.min())
    first = int(leftmost[np.argmin(y[leftmost])])
    return np.concatenate([np.roll(ring[:-1], -first, axis=0), ring[first : first + 1]])
