"""Tissue pieces: what hangs together, scraps, reading order, and numbers that do not depend on how they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.slide.opening import open_slide
from lpd.slide.pieces import find_pieces
from lpd.slide.region import Region
from lpd.slide.tissue import TissueMask, tissue_mask

CELL = 16  # level-0 pixels of 0.5 µm: cells of 8 µm, 25 of them 0.2 mm


def tissue(cells: np.ndarray, mpp: float | None = 0.5) -> TissueMask:
    return TissueMask(cells, CELL * cells.shape[1], CELL * cells.shape[0], mpp)


def empty(height: int = 300, width: int = 400) -> np.ndarray:
    return np.zeros((height, width), bool)


def corners(cells: np.ndarray, mpp: float | None = 0.5) -> list[tuple[int, int]]:
    """Upper left corners of the pieces, in cells, by number."""
    pieces = find_pieces(tissue(cells, mpp)).pieces
    assert [p.number for p in pieces] == list(range(1, len(pieces) + 1))
    return [(p.region.x_l0 // CELL, p.region.y_l0 // CELL) for p in pieces]


def test_a_piece_is_measured() -> None:
    cells = empty()
    cells[20:60, 100:180] = True
    cells[30:50, 120:160] = False  # a hole
    (piece,) = find_pieces(tissue(cells)).pieces
    assert piece.region == Region(1600, 320, 1280, 640)
    assert piece.area_mm2 == pytest.approx((40 * 80 - 20 * 40) * 64e-6)
    assert piece.center_l0 == pytest.approx((140 * CELL, 40 * CELL))


def test_cells_that_touch_by_a_corner_hang_together() -> None:
    cells = empty()
    cells[10:50, 10:50] = cells[50:90, 50:90] = True
    assert corners(cells) == [(10, 10)]


def test_numbers_go_row_by_row_as_one_reads() -> None:
    cells = empty()
    for x, y in [(200, 10), (20, 25), (310, 18), (150, 200), (30, 180)]:
        cells[y : y + 50, x : x + 50] = True
    assert corners(cells) == [(20, 25), (200, 10), (310, 18), (30, 180), (150, 200)]


def test_pieces_beside_a_tall_one_are_in_its_row() -> None:
    cells = empty()
    cells[10:200, 10:60] = True
    cells[120:170, 100:150] = cells[20:70, 110:160] = cells[190:280, 200:250] = True
    assert corners(cells) == [(10, 10), (100, 120), (110, 20), (200, 190)]


def test_large_pieces_stay_apart_however_near() -> None:
    cells = empty()
    cells[10:50, 10:50] = cells[10:50, 53:93] = True
    assert corners(cells) == [(10, 10), (53, 10)]


def test_scraps_join_the_nearest_piece_within_a_fifth_of_a_millimetre() -> None:
    cells = empty()
    cells[50:100, 50:100] = cells[50:100, 150:200] = True
    cells[60:66, 110:116] = True  # 10 and 34 cells away: belongs to the first
    cells[60:66, 224:230] = True  # 24 away from the second
    cells[200:206, 60:66] = True  # too far from all
    found = find_pieces(tissue(cells))
    assert [p.region for p in found.pieces] == [
        Region(50 * CELL, 50 * CELL, 66 * CELL, 50 * CELL),
        Region(150 * CELL, 50 * CELL, 80 * CELL, 50 * CELL),
    ]
    numbers = found.read(Region(0, 0, 400 * CELL, 300 * CELL), (400, 300))
    assert (numbers[62, 112], numbers[62, 226], numbers[202, 62]) == (1, 2, 0)
    assert found.pieces[0].area_mm2 == pytest.approx((2500 + 36) * 64e-6)


def test_a_scrap_farther_than_that_stays_out() -> None:
    cells = empty()
    cells[50:100, 50:100] = True
    cells[60:66, 99 + 26 : 99 + 32] = True  # 26 cells from middle to middle: 208 µm
    ((x, y),) = corners(cells)
    assert find_pieces(tissue(cells)).pieces[0].region.width_l0 == 50 * CELL
    assert (x, y) == (50, 50)


def test_crumbs_near_one_another_make_a_piece() -> None:
    cells = empty()
    for x in (20, 55, 90):  # 18 x 18 cells each, 17 apart: 972 cells of at least 781
        cells[30:48, x : x + 18] = True
    cells[200:218, 20:38] = True
    found = find_pieces(tissue(cells))
    assert [p.region for p in found.pieces] == [Region(20 * CELL, 30 * CELL, 88 * CELL, 18 * CELL)]


def test_in_a_small_picture_little_is_a_piece() -> None:
    cells = np.zeros((20, 20), bool)
    cells[3:7, 3:7] = True
    cells[15, 15] = True
    assert len(find_pieces(tissue(cells)).pieces) == 1


def test_nothing_and_everything() -> None:
    assert find_pieces(tissue(empty())).pieces == ()
    whole = find_pieces(TissueMask(np.ones((1, 1), bool), 1000, 700, 0.5)).pieces
    assert [(p.region, p.area_mm2) for p in whole] == [(Region(0, 0, 1000, 700), pytest.approx(0.175))]


def test_without_a_resolution_there_are_numbers_but_no_areas() -> None:
    cells = empty()
    cells[10:60, 10:60] = cells[10:60, 200:250] = True
    assert corners(cells, None) == [(10, 10), (200, 10)]
    assert {p.area_mm2 for p in find_pieces(tissue(cells, None)).pieces} == {None}


def test_numbers_are_the_same_however_they_are_read() -> None:
    cells = empty()
    cells[10:60, 10:60] = cells[100:150, 200:260] = cells[30:90, 300:350] = True
    found = find_pieces(tissue(cells))
    whole = found.read(Region(0, 0, 400 * CELL, 300 * CELL), (400, 300))
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole > 0, cells)
    assert {int(whole[20, 20]), int(whole[50, 320]), int(whole[120, 230])} == {1, 2, 3}
    for step in (50, 130):
        for y in range(0, 300, step):
            for x in range(0, 400, step):
                width, height = min(step, 400 - x), min(step, 300 - y)
                region = Region(x * CELL, y * CELL, width * CELL, height * CELL)
                np.testing.assert_array_equal(found.read(region, (width, height)), whole[y : y + height, x : x + width])
                twice = found.read(region, (2 * width, 2 * height))
                np.testing.assert_array_equal(twice[::2, ::2], whole[y : y + height, x : x + width])
    assert not found.read(Region(-500, -500, 400, 400), (4, 4)).any()


def test_blobs_on_a_painted_slide(tmp_path: Path) -> None:
    """Three blobs, one with a hole, and a speck: as a slide has them."""
    y, x = np.mgrid[:900, :1200]
    pixels = np.full((900, 1200, 3), 243, np.uint8)
    pixels[np.hypot(x - 250, y - 250) < 150] = (200, 90, 160)
    pixels[np.hypot(x - 250, y - 250) < 60] = 243
    pixels[np.hypot(x - 800, y - 300) < 120] = (190, 100, 170)
    pixels[np.hypot(x - 500, y - 700) < 130] = (180, 80, 150)
    pixels[np.hypot(x - 1100, y - 850) < 12] = (180, 80, 150)
    Image.fromarray(pixels).save(tmp_path / "blobs.png")
    with open_slide(tmp_path / "blobs.png", mpp=2.0) as slide:
        found = find_pieces(tissue_mask(slide))
        numbers = found.read(slide.region, (1200, 900))
    assert len(found.pieces) == 3
    assert [numbers[at] for at in ((130, 250), (300, 800), (700, 500))] == [1, 2, 3]
    assert [numbers[at] for at in ((250, 250), (850, 1100), (10, 10))] == [0, 0, 0]
    ring, disk, _ = found.pieces
    assert ring.area_mm2 == pytest.approx(np.pi * (158**2 - 52**2) * 4e-6, rel=0.1)  # with its margin of 16 µm
    assert disk.center_l0 == pytest.approx((800, 300), abs=4)
