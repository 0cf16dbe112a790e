"""Areas inside of drawn regions: squares counted by hand, any polygon against shapely, flat memory."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import shapely

from lpd.errors import ConfigError, ResultError
from lpd.export import region_areas
from lpd.export.areas import areas
from lpd.export.region_areas import tally_inside, write_region_areas_csv
from lpd.slide.annotations import DrawnRegion
from lpd.slide.polygon import Polygon, Ring

from .conftest import HandMade, HandMadeMeta, blobs


def box(x0: float, y0: float, x1: float, y1: float) -> Ring:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def halves() -> HandMade:
    """100 × 100 mask pixels of 1 µm, two level-0 pixels wide: tumour | stroma, glass below 60, unknown below 80."""
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 50:] = 1
    mask[60:], mask[80:] = 4, 255
    return HandMade(mask)


def test_squares_are_counted_by_hand() -> None:
    # Mask columns 40 to 69 and rows 50 to 89: 10 + 20 columns over 10 rows of tissue, 20 rows of glass, 10 unknown.
    found = tally_inside(halves(), [Polygon((box(80, 100, 140, 180),))])
    assert [row.pixels for row in found.classes] == [100, 200, 0, 0]
    assert found.classes[0].area_mm2 == pytest.approx(100e-6)
    assert found.classes[1].percent_of_tissue == pytest.approx(200 / 3)
    assert (found.background_mm2, found.not_computed_mm2) == pytest.approx((600e-6, 300e-6))
    assert found.area_mm2 == pytest.approx(60 * 80 * 0.5**2 * 1e-6)
    assert found.computed_percent == pytest.approx(75)


def test_a_pixel_counts_if_its_middle_is_inside() -> None:
    # The middle of mask pixel 10 is at level 0 21: a border at 20.9 takes it in, one at 21.1 leaves it out.
    for left, columns in ((20.9, 10), (21.1, 9)):
        found = tally_inside(halves(), [Polygon((box(left, 0, 40, 2),))])
        assert [row.pixels for row in found.classes] == [columns, 0, 0, 0]


def test_holes_are_left_out_and_overlaps_count_once() -> None:
    with_hole = Polygon((box(0, 0, 40, 40), box(10, 10, 20, 20)))
    assert tally_inside(halves(), [with_hole]).classes[0].pixels == 20 * 20 - 5 * 5
    overlapping = [Polygon((box(0, 0, 40, 40),)), Polygon((box(20, 0, 60, 40),))]
    assert tally_inside(halves(), overlapping).classes[0].pixels == 30 * 20


def test_all_of_the_slide_is_what_the_slide_has() -> None:
    store = HandMade(blobs(70, 90, 3))
    found = tally_inside(store, [Polygon((box(-1e6, -1e6, 1e9, 1e9),))])
    assert list(found.classes) == areas(store)


def test_beside_the_slide_there_is_nothing() -> None:
    for x, y in ((-500, 0), (0, -500), (900, 0), (0, 900)):
        found = tally_inside(halves(), [Polygon((box(x, y, x + 100, y + 100),))])
        assert (found.area_mm2, found.computed_percent) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_any_polygon_against_shapely(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_areas, "_SQUARE_PX", 16)
    monkeypatch.setattr(region_areas, "_CROSSINGS_HELD", 20)  # squares are cut into rows, too
    rng = np.random.default_rng(seed)
    store = HandMade(blobs(90, 130, seed), HandMadeMeta(390, 270, scale=3.0))
    turns = np.sort(rng.uniform(0, 2 * np.pi, 40))
    reach = rng.uniform(20, 200, 40)
    star = np.stack([195 + reach * np.cos(turns), 135 + reach * np.sin(turns)], axis=1)
    hole = [(190.2, 130.1), (200.3, 131.2), (196.1, 140.4)]
    polygon = Polygon((tuple(map(tuple, star.tolist())), tuple(hole)))
    xs, ys = np.meshgrid(3 * (np.arange(130) + 0.5), 3 * (np.arange(90) + 0.5))
    inside = shapely.contains_xy(shapely.Polygon(star, [hole]), xs, ys)
    expected = np.bincount(store.mask[inside], minlength=256)
    found = tally_inside(store, [polygon])
    assert [row.pixels for row in found.classes] == expected[:4].tolist()
    assert found.background_mm2 == pytest.approx(expected[4] * 1e-6)
    assert found.not_computed_mm2 == pytest.approx(expected[255] * 1e-6)


def test_memory_does_not_grow_with_the_region() -> None:
    side = 4000
    store = HandMade(np.broadcast_to(np.uint8(1), (side, side)))  # 16 MB
    turns = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    corners = side + side * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    circle = Polygon((tuple(map(tuple, corners.tolist())),))
    tracemalloc.start()
    found = tally_inside(store, [circle])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.classes[1].pixels == pytest.approx(np.pi * 2000**2, rel=1e-4)
    assert store.largest == 512 * 512
    assert peak < 12e6


def test_a_tangle_is_refused_in_a_sentence() -> None:
    corners = tuple((float(i % 7), float(side)) for i in range(30_000) for side in (0, 20_000))
    store = HandMade(np.broadcast_to(np.uint8(1), (10_000, 10_000)))
    with pytest.raises(ConfigError, match=r"polygon lace goes to and fro too often .* draw it simpler"):
        tally_inside(store, [Polygon((corners,), "lace")])


def test_table(tmp_path: Path) -> None:
    biopsy = DrawnRegion("biopsy, 1", (Polygon((box(80, 100, 140, 180),)),))
    regions = [biopsy, DrawnRegion("", ()), DrawnRegion("=1+1", ())]
    write_region_areas_csv(halves(), regions, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["code"] for row in rows[:7]] == ["TUM", "STR", "LYM", "NEC", "TISSUE", "BACKGROUND", "NOT_COMPUTED"]
    assert rows[1]["percent_of_tissue"] == "66.6667"
    assert [row["area_mm2"] for row in rows[4:7]] == ["0.000300", "0.000600", "0.000300"]
    assert {row["region"] for row in rows} == {"biopsy, 1", "Region 2", "'=1+1"}
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"r\.csv"):
        write_region_areas_csv(halves(), regions, tmp_path / "file" / "r.csv")


def test_many_small_polygons_cost_nothing_where_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    contains = Polygon.contains
    monkeypatch.setattr(Polygon, "contains", lambda self, xs, ys: asked.append(1) or contains(self, xs, ys))
    squares = [Polygon((box(x, y, x + 8, y + 8),)) for x in range(0, 8000, 800) for y in range(0, 8000, 800)]
    store = HandMade(np.broadcast_to(np.uint8(1), (8192, 8192)))
    found = tally_inside(store, squares)
    assert found.tissue_mm2 > 0
    assert len(asked) <= 4 * len(squares)  # the squares of the mask that each reaches into, not all 256
