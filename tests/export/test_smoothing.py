"""Smooth borders: valid, without gaps or overlaps, every cell on its side, wherever blocks and neighbours lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from shapely import contains_xy, unary_union
from shapely.geometry import Polygon

from lpd.export.cells import CellGrid
from lpd.export.junctions import Junctions
from lpd.export.outlines import outlines
from lpd.export.smoothing import Smoothing

from .conftest import HandMade, blobs


def smooth(mask: np.ndarray, folder: Path, block_cells: int = 1024) -> list[tuple[int, list[np.ndarray]]]:
    """Value and rings of each region."""
    grid = CellGrid(HandMade(mask), 1, block_cells)
    junctions = Junctions()
    smoothing = Smoothing(junctions, grid.shape)
    return [
        (o.value, [smoothing.ring(ring) for ring in (o.exterior, *o.holes)])
        for o in outlines(grid, 4, 0, folder, junctions)
    ]


def waves(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((5, 47, 38))
    return ndimage.gaussian_filter(noise, (0, 2, 2)).argmax(0).astype(np.uint8)


@pytest.mark.parametrize(
    "mask",
    [*(blobs(31, 44, seed, coarse) for seed, coarse in ((0, 1), (1, 2), (2, 5))), *map(waves, range(6))],
)
@pytest.mark.parametrize("block_cells", [5, 1024])
def test_every_cell_stays_in_its_region_and_lines_do_not_cross(
    tmp_path: Path, mask: np.ndarray, block_cells: int
) -> None:
    regions = smooth(mask, tmp_path, block_cells)
    # Rounded as in files, at about two pixels of the slide per cell.
    rounded = [(value, [np.round(2.004 * ring, 3) for ring in rings]) for value, rings in regions]
    shapes = [(value, Polygon(rings[0], rings[1:])) for value, rings in rounded]
    assert all(s.is_valid for _, s in shapes)
    y, x = (np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5) * 2.004
    for value in range(4):
        merged = unary_union([s for v, s in shapes if v == value])
        np.testing.assert_array_equal(contains_xy(merged, x, y), mask == value)
    assert sum(s.area for _, s in shapes) == pytest.approx(unary_union([s for _, s in shapes]).area, rel=1e-5)


@pytest.mark.parametrize("block_cells", [3, 7])
def test_where_the_seams_fall_does_not_matter(tmp_path: Path, block_cells: int) -> None:
    mask = waves(3)
    found = [smooth(mask, tmp_path, side) for side in (block_cells, 1024)]
    one, other = ({str((value, [ring.tolist() for ring in rings])) for value, rings in each} for each in found)
    assert one == other


def test_a_region_and_the_hole_around_it_have_one_border(tmp_path: Path) -> None:
    y, x = np.mgrid[:50, :50] - 24.0
    mask = np.where(np.hypot(x, y) < 17, 1, 0).astype(np.uint8)
    (_, (_, hole)), (_, (disc,)) = sorted(smooth(mask, tmp_path), key=lambda region: region[0])
    np.testing.assert_array_equal(hole[::-1], disc)
    assert len(disc) < 30  # of 136 edges
    assert Polygon(disc).area == pytest.approx((mask == 1).sum(), rel=0.04)


def test_a_slanting_border_becomes_a_line(tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :90]
    mask = np.where(y > 0.41 * x + 9.3, 1, 0).astype(np.uint8)
    for _, (ring,) in smooth(mask, tmp_path):
        assert len(ring) < 20  # of 75 corners or so


def test_the_slides_edge_stays_where_it_is(tmp_path: Path) -> None:
    mask = np.full((20, 30), 2, np.uint8)
    ((_, (ring,)),) = smooth(mask, tmp_path)
    assert ring.tolist() == [[0, 0], [30, 0], [30, 20], [0, 20], [0, 0]]


def test_a_single_cell(tmp_path: Path) -> None:
    mask = np.full((5, 5), 4, np.uint8)
    mask[2, 2] = 0
    ((_, (ring,)),) = smooth(mask, tmp_path)
    assert Polygon(ring).is_valid
    assert Polygon(ring).area >= 0.4


def test_where_three_meet_the_corner_stays(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, 10:] = 1
    mask[12:, :] = 2
    for _, (ring,) in smooth(mask, tmp_path):
        assert [10, 12] in ring.tolist()
