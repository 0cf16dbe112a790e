"""Outlines of regions, checked by shapely and by counting cells, wherever the seams between blocks fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from shapely import box, unary_union
from shapely.geometry import Polygon

from lpd.export.cells import CellGrid
from lpd.export.outlines import Outline, outlines

from .conftest import HandMade, blobs

#: Whole pictures, and blocks of few cells, so that nearly every border crosses a seam.
BLOCKS = (1, 2, 3, 7, 1024)


def found(mask: np.ndarray, folder: Path, block_cells: int, classes: int = 4, smallest: float = 0) -> list[Outline]:
    return list(outlines(CellGrid(HandMade(mask), 1, block_cells), classes, smallest, folder))


def polygons(picture: np.ndarray, folder: Path, block_cells: int) -> list[Polygon]:
    mask = np.where(picture, 0, 255).astype(np.uint8)
    return [Polygon(o.exterior, o.holes) for o in found(mask, folder, block_cells)]


def drawn(*rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows])


def plain(outline: Outline) -> tuple[object, ...]:
    return outline.value, outline.cells, outline.exterior.tolist(), sorted(hole.tolist() for hole in outline.holes)


@pytest.mark.parametrize("block_cells", BLOCKS)
def test_one_cell(tmp_path: Path, block_cells: int) -> None:
    (outline,) = found(np.array([[4, 4], [4, 2]], np.uint8), tmp_path, block_cells)
    assert plain(outline) == (2, 1, [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]], [])


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (0, 0)])
def test_nothing(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert found(np.full(shape, 4, np.uint8), tmp_path, 3) == []


@pytest.mark.parametrize("block_cells", BLOCKS)
def test_straight_borders_have_no_corners_at_seams(tmp_path: Path, block_cells: int) -> None:
    (outline,) = found(np.zeros((12, 17), np.uint8), tmp_path, block_cells)
    assert plain(outline) == (0, 12 * 17, [[0, 0], [17, 0], [17, 12], [0, 12], [0, 0]], [])


@pytest.mark.parametrize("block_cells", BLOCKS)
@pytest.mark.parametrize(
    ("picture", "holes", "area"),
    [
        (drawn("###", "#.#", "###"), [1], 8),
        (drawn("####", "#..#", "####"), [1], 10),
        (drawn("####", "#.##", "##.#", "####"), [2], 14),  # holes that touch by a corner
        (drawn("###.", "#.##", "####"), [1], 10),  # a hole that touches the outside by a corner
        (drawn("#.", ".#"), [0, 0], 2),  # a corner does not join
        (drawn("#####", "#...#", "#.#.#", "#...#", "#####"), [0, 1], 17),  # an island in a hole
        (drawn("##.", "#.#", "###"), [0], 7),  # two cells close a ring by a corner only
        (drawn(".##", "#.#", "###"), [0], 7),
        (drawn(".#.#.", "#####", ".#.#.", "#####", ".#.#."), None, 16),  # a lattice
    ],
)
def test_small_shapes(
    tmp_path: Path, picture: np.ndarray, holes: list[int] | None, area: int, block_cells: int
) -> None:
    shapes = polygons(picture, tmp_path, block_cells)
    assert all(shape.is_valid for shape in shapes)
    assert sum(shape.area for shape in shapes) == area == picture.sum()
    if holes not in (None, [0]):
        assert sorted(len(shape.interiors) for shape in shapes) == holes


@pytest.mark.parametrize("block_cells", [5, 1024])
@pytest.mark.parametrize(("seed", "share"), [(0, 0.3), (1, 0.5), (2, 0.6), (3, 0.7), (4, 0.9)])
def test_random_cells_give_exactly_the_union_of_their_squares(
    tmp_path: Path, seed: int, share: float, block_cells: int
) -> None:
    picture = np.random.default_rng(seed).random((40, 50)) < share
    shapes = polygons(picture, tmp_path, block_cells)
    assert all(shape.is_valid for shape in shapes)
    assert len(shapes) == ndimage.label(picture)[1]
    squares = unary_union([box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(picture), strict=True)])
    assert unary_union(shapes).symmetric_difference(squares).area == 0
    assert sum(shape.area for shape in shapes) == picture.sum()


@pytest.mark.parametrize("block_cells", BLOCKS[:-1])
def test_where_the_seams_fall_does_not_matter(tmp_path: Path, block_cells: int) -> None:
    mask = blobs(37, 41, 9, 2)
    whole = sorted(map(plain, found(mask, tmp_path, 1024)))
    assert sorted(map(plain, found(mask, tmp_path, block_cells))) == whole
    assert {outline[0] for outline in whole} == {0, 1, 2, 3}


def test_regions_are_measured_across_seams(tmp_path: Path) -> None:
    mask = np.full((8, 20), 4, np.uint8)
    mask[3, 1:19] = 1  # 18 cells in five blocks, never more than 4 in one
    mask[6, 4:8] = 1
    (outline,) = found(mask, tmp_path, 4, smallest=18)
    assert outline.cells == 18
    assert found(mask, tmp_path, 4, smallest=19) == []


def test_neighbours_share_their_border(tmp_path: Path) -> None:
    one, two = (Polygon(o.exterior, o.holes) for o in found(np.array([[0, 0, 1], [0, 1, 1]], np.uint8), tmp_path, 2))
    assert one.touches(two)
    assert one.union(two).equals(box(0, 0, 3, 2))


@pytest.mark.parametrize("block_cells", BLOCKS)
def test_exterior_and_holes_run_opposite_ways(tmp_path: Path, block_cells: int) -> None:
    mask = np.where(drawn("###", "#.#", "###"), 0, 4).astype(np.uint8)
    (outline,) = found(mask, tmp_path, block_cells)
    assert Polygon(outline.exterior).exterior.is_ccw  # in a frame with y up; clockwise on the screen
    assert not Polygon(outline.holes[0]).exterior.is_ccw


def test_the_temporary_file_goes_away(tmp_path: Path) -> None:
    first = outlines(CellGrid(HandMade(blobs(30, 30, 1)), 1, 8), 4, 0, tmp_path)
    next(first)
    first.close()  # type: ignore[attr-defined]  # a generator, to its callers an iterator
    assert list(tmp_path.iterdir()) == []
