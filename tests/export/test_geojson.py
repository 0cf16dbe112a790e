"""QuPath annotations: exact areas, valid shapes, the names and forms that QuPath asks for."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import contains_xy, unary_union
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lpd.classes import BCSS, ClassScheme, TissueClass
from lpd.errors import ConfigError, ResultError
from lpd.export.cells import CellGrid
from lpd.export.geojson import write_geojson
from lpd.export.outlines import outlines

from .conftest import HandMade, HandMadeMeta, blobs


def written(store: HandMade, folder: Path, **options: float) -> dict[str, Any]:
    write_geojson(store, folder / "a.geojson", **options)
    document: dict[str, Any] = json.loads((folder / "a.geojson").read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    return document


def by_class(document: dict[str, Any]) -> dict[str, BaseGeometry]:
    groups: dict[str, list[BaseGeometry]] = {}
    for feature in document["features"]:
        groups.setdefault(feature["properties"]["classification"]["name"], []).append(shape(feature["geometry"]))
    return {name: unary_union(group) for name, group in groups.items()}


def test_one_square(tmp_path: Path) -> None:
    mask = np.full((10, 12), 4, np.uint8)
    mask[2:5, 3:7] = 2
    (feature,) = written(HandMade(mask), tmp_path, min_area_um2=0)["features"]
    # Two level-0 pixels per mask pixel.
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[6, 4], [14, 4], [14, 10], [6, 10], [6, 4]]],
    }
    assert feature["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "Immune cells", "color": [0, 0, 255]},
        # 14 edges with 4 bends: (10 + 4 √½) · 0.94806.
        "measurements": {"Area mm^2": 12e-6, "Perimeter um": 12.162, "Holes": 0},
    }
    assert uuid.UUID(feature["id"]).version == 5


@pytest.mark.parametrize("coarse", [1, 3])
def test_areas_and_shapes_are_exactly_those_of_the_pixels(tmp_path: Path, coarse: int) -> None:
    mask = blobs(45, 60, 5, coarse)
    document = written(HandMade(mask), tmp_path, min_area_um2=0)
    assert all(shape(f["geometry"]).is_valid for f in document["features"])
    assert all(
        ring[0] == ring[-1] and len(ring) >= 5 for f in document["features"] for ring in f["geometry"]["coordinates"]
    )
    shapes = by_class(document)
    y, x = np.mgrid[0:45, 0:60]
    for value, tissue in enumerate(BCSS.classes):
        merged = shapes[tissue.qupath_name]
        assert merged.area == 4 * (mask == value).sum()
        np.testing.assert_array_equal(contains_xy(merged, 2 * x + 1, 2 * y + 1), mask == value)
        measured = sum(
            f["properties"]["measurements"]["Area mm^2"]
            for f in document["features"]
            if f["properties"]["classification"]["name"] == tissue.qupath_name
        )
        assert measured == pytest.approx((mask == value).sum() * 1e-6)
    assert len({f["id"] for f in document["features"]}) == len(document["features"])


def test_hole_and_island(tmp_path: Path) -> None:
    mask = np.full((9, 9), 1, np.uint8)
    mask[2:7, 2:7] = 4
    mask[4, 4] = 1
    large, island = written(HandMade(mask), tmp_path, min_area_um2=0)["features"]
    assert shape(large["geometry"]).area == 4 * (81 - 25)
    # 36 and 20 edges with 4 bends each: (48 + 8 √½) · 0.94806.
    assert large["properties"]["measurements"]["Perimeter um"] == pytest.approx(50.870)
    assert [f["properties"]["measurements"]["Holes"] for f in (large, island)] == [1, 0]
    assert len(large["geometry"]["coordinates"]) == 2
    assert shape(island["geometry"]).area == 4


@pytest.mark.parametrize("radius", [15, 60])
def test_the_perimeter_of_a_disc_is_that_of_a_circle(tmp_path: Path, radius: int) -> None:
    y, x = np.mgrid[:130, :130] - 64.5
    mask = np.where(x**2 + y**2 <= radius**2, 0, 4).astype(np.uint8)
    (feature,) = written(HandMade(mask), tmp_path)["features"]
    measured = feature["properties"]["measurements"]
    assert measured["Perimeter um"] == pytest.approx(2 * np.pi * radius, rel=0.02)
    edges = shape(feature["geometry"]).length / 2
    assert edges == pytest.approx(8 * radius, rel=0.04)  # what following the pixels' edges gives


@pytest.mark.parametrize("degrees", range(0, 46, 5))
def test_the_perimeter_is_nearly_the_same_however_a_region_lies(tmp_path: Path, degrees: int) -> None:
    turn = np.exp(1j * np.radians(degrees))
    y, x = np.mgrid[:200, :200] - 99.5
    turned = (x + 1j * y) * turn
    mask = np.where((abs(turned.real) < 60) & (abs(turned.imag) < 40), 1, 4).astype(np.uint8)
    (feature,) = written(HandMade(mask), tmp_path)["features"]
    share = feature["properties"]["measurements"]["Perimeter um"] / 400
    assert 0.94 < share < 1.03


def test_the_mean_score_is_that_of_the_regions_own_class(tmp_path: Path) -> None:
    mask = np.full((40, 48), 4, np.uint8)
    mask[:20, :24], mask[20:, 24:], mask[30:34, 4:8] = 0, 1, 1
    scores = np.zeros((4, 40, 48), np.uint8)
    scores[0, :, :12], scores[0, :, 12:] = 127, 254  # half of the region each
    scores[1] = 51
    scores[1, :, :24] = 255  # nothing known
    store = HandMade(mask, scores=scores)
    features = written(store, tmp_path, min_area_um2=0)["features"]
    means = [f["properties"]["measurements"].get("Mean score") for f in features]
    assert sorted(means, key=str) == [pytest.approx(0.2008, abs=1e-4), 0.75, None]
    blocks = CellGrid(store, 1, 7)
    assert sorted((o.score for o in outlines(blocks, 4, 0, tmp_path)), key=str) == [
        pytest.approx(51 / 254),
        pytest.approx(0.75),
        None,
    ]
    (one,) = written(HandMade(np.zeros_like(mask), scores=scores), tmp_path, simplify_um=2)["features"]
    assert one["properties"]["measurements"]["Mean score"] == pytest.approx((12 * 127 + 36 * 254) / 48 / 254, abs=1e-4)


@pytest.mark.parametrize("simplify_um", [0.0, 4.0])
def test_smooth_regions_tile_the_plane_as_the_pixels_do(tmp_path: Path, simplify_um: float) -> None:
    y, x = np.mgrid[:120, :150]
    mask = ((np.hypot(x - 60, y - 50) / 17).astype(int) % 4).astype(np.uint8)
    mask[:, 110:] = 4
    exact = written(HandMade(mask), tmp_path, min_area_um2=0, simplify_um=simplify_um)
    smooth = written(HandMade(mask), tmp_path, min_area_um2=0, simplify_um=simplify_um, smooth=True)
    assert (exact["lpd"]["smooth"], smooth["lpd"]["smooth"]) == (False, True)
    assert {f["id"] for f in smooth["features"]}.isdisjoint(f["id"] for f in exact["features"])
    shapes = [shape(f["geometry"]) for f in smooth["features"]]
    assert all(s.is_valid for s in shapes)
    assert sum(s.area for s in shapes) == pytest.approx(unary_union(shapes).area, rel=1e-5)
    measured = [[f["properties"]["measurements"] for f in document["features"]] for document in (exact, smooth)]
    assert measured[0] == measured[1]  # of the cells, not of the lines
    corners = [len(json.dumps([f["geometry"] for f in document["features"]])) for document in (exact, smooth)]
    assert corners[1] < 0.6 * corners[0]


@pytest.mark.parametrize("value", [4, 255])
def test_background_and_not_computed_are_left_out(tmp_path: Path, value: int) -> None:
    assert written(HandMade(np.full((6, 8), value, np.uint8)), tmp_path)["features"] == []


def test_all_one_class(tmp_path: Path) -> None:
    (feature,) = written(HandMade(np.zeros((600, 800), np.uint8)), tmp_path)["features"]
    assert feature["geometry"]["coordinates"] == [[[0, 0], [1600, 0], [1600, 1200], [0, 1200], [0, 0]]]


def test_small_regions_are_left_out_but_not_from_holes(tmp_path: Path) -> None:
    mask = np.full((40, 40), 0, np.uint8)
    mask[10:13, 10:13] = 1  # 9 µm²
    mask[20:24, 20:24] = 1  # 16 µm²
    document = written(HandMade(mask), tmp_path, min_area_um2=16)
    assert document["lpd"]["min_area_um2"] == 16
    shapes = by_class(document)
    assert shapes["Stroma"].area == 4 * 16
    assert shapes["Tumor"].area == 4 * (1600 - 25)


def test_scale_that_is_not_whole_and_the_slides_edge(tmp_path: Path) -> None:
    """At 0.499 µm/px, 5 x 4 mask pixels of 1 µm reach past a slide of 10 x 7 pixels and are cut off there."""
    meta = HandMadeMeta(10, 7, scale=1 / 0.499)
    (feature,) = written(HandMade(np.zeros((4, 5), np.uint8), meta), tmp_path, min_area_um2=0)["features"]
    assert feature["geometry"]["coordinates"] == [[[0, 0], [10, 0], [10, 7], [0, 7], [0, 0]]]
    mask = np.full((4, 5), 4, np.uint8)
    mask[0, 1] = 0
    (feature,) = written(HandMade(mask, meta), tmp_path, min_area_um2=0)["features"]
    assert feature["geometry"]["coordinates"][0][0] == [2.004, 0]


def test_last_column_of_almost_no_width_stays_a_polygon(tmp_path: Path) -> None:
    mask = np.full((4, 5), 4, np.uint8)
    mask[:, 4] = 0
    meta = HandMadeMeta(8001, 8000, scale=2000.25)  # the fifth column begins at 8001
    (feature,) = written(HandMade(mask, meta), tmp_path, min_area_um2=0)["features"]
    assert shape(feature["geometry"]).is_valid
    assert shape(feature["geometry"]).area > 0


@pytest.mark.parametrize("simplify_um", [0.0, 2.0])
def test_no_more_than_a_block_is_read_at_once(tmp_path: Path, simplify_um: float) -> None:
    store = HandMade(blobs(2300, 4200, 1, 100))
    document = written(store, tmp_path, simplify_um=simplify_um)
    assert store.largest <= 2050 * 2050 < store.mask.size  # a block and the cells around it
    areas = [f["properties"]["measurements"]["Area mm^2"] for f in document["features"]]
    assert sum(areas) == pytest.approx((store.mask < 4).sum() * 1e-6)


def test_simplify_sets_the_grid(tmp_path: Path) -> None:
    mask = np.zeros((101, 50), np.uint8)
    for um, expected in ((0.0, 1), (1.9, 1), (2.0, 2), (9.0, 8)):
        document = written(HandMade(mask), tmp_path, simplify_um=um)
        assert document["lpd"]["resolution_um"] == expected
        (feature,) = document["features"]
        assert shape(feature["geometry"]).bounds == (0, 0, 100, 202)


def test_same_result_same_file(tmp_path: Path) -> None:
    store = HandMade(blobs(30, 30, 1, 5))
    one = written(store, tmp_path, min_area_um2=0)
    assert written(store, tmp_path, min_area_um2=0) == one
    other = HandMade(store.mask, replace(store.meta, slide_fingerprint="f2"))
    assert {f["id"] for f in written(other, tmp_path)["features"]}.isdisjoint(f["id"] for f in one["features"])


def test_class_without_a_qupath_name_keeps_its_own(tmp_path: Path) -> None:
    scheme = ClassScheme((TissueClass("A", "Drüse", (1, 2, 3)),))
    mask = np.zeros((30, 30), np.uint8)
    (feature,) = written(HandMade(mask, HandMadeMeta(60, 60, classes=scheme)), tmp_path)["features"]
    assert feature["properties"]["classification"] == {"name": "Drüse", "color": [1, 2, 3]}


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("old")
    store = HandMade(blobs(30, 30, 1, 5))
    store.read_mask_px = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]  # a store that breaks midway
    with pytest.raises(ZeroDivisionError):
        write_geojson(store, tmp_path / "a.geojson")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.geojson", "old")]


def test_bad_requests_are_named(tmp_path: Path) -> None:
    store = HandMade(np.zeros((3, 3), np.uint8))
    for options in ({"min_area_um2": -1}, {"simplify_um": -1}, {"simplify_um": float("inf")}):
        with pytest.raises(ConfigError, match=str(*options.values())):
            write_geojson(store, tmp_path / "a.geojson", **options)
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"a\.geojson"):
        write_geojson(store, tmp_path / "file" / "a.geojson")
