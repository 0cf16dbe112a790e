"""GeoJSON as QuPath writes it becomes polygons; what is none is refused by its number or name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import Polygon as Shape

from lpd.errors import ConfigError
from lpd.slide.annotations import read_polygons
from lpd.slide.polygon import Polygon

SQUARE = [[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]
INNER = [[2, 2], [4, 2], [4, 4], [2, 2]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, INNER]}


def feature(geometry: object, name: str | None = None) -> dict:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": name} if name else {}}


def written(tmp_path: Path, document: object) -> Path:
    (tmp_path / "a.geojson").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path / "a.geojson"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [feature(POLYGON)]},
        feature(POLYGON),
        [feature(POLYGON)],
        [POLYGON],
        POLYGON,
        {"type": "MultiPolygon", "coordinates": [POLYGON["coordinates"]]},
    ],
)
def test_every_form_is_read(tmp_path, document):
    (polygon,) = read_polygons(written(tmp_path, document))
    assert polygon.rings == (((0, 0), (8, 0), (8, 8), (0, 8)), ((2, 2), (4, 2), (4, 4)))
    assert Polygon.from_dict(json.loads(json.dumps(polygon.to_dict()))) == polygon
    assert hash(polygon) == hash(Polygon(polygon.rings, "other name"))


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        ({"type": "Point", "coordinates": [1, 2]}, r"feature 2 \('Tumour'\) of .* is a Point, not a polygon"),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, r"feature 2 .* is a LineString"),
        (None, "feature 2 .* has no geometry"),
        ({"type": "Polygon", "coordinates": []}, "polygon 2 .* is empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "feature 2 .* is empty"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0, 0]]]}, "polygon 2 .* is empty, its line encloses"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [0]]]}, "feature 2 .* malformed"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [5, float("nan")], [0, 7]]]}, "polygon 2 .* no finite number"),
    ],
)
def test_what_is_no_area_is_named(tmp_path, geometry, words):
    with pytest.raises(ConfigError, match=words):
        read_polygons(written(tmp_path, [feature(POLYGON), feature(geometry, "Tumour")]))


def test_a_file_that_is_no_geojson_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read as GeoJSON"):
        read_polygons(tmp_path / "missing.geojson")
    with pytest.raises(ConfigError, match="holds no annotations"):
        read_polygons(written(tmp_path, []))


def test_points_inside_are_those_that_shapely_finds():
    rng = np.random.default_rng(4)
    xs, ys = np.arange(0.37, 100, 1.31), np.arange(0.61, 90, 0.97)
    for count in (3, 7, 40):
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        radius = rng.uniform(10, 60, count)
        corners = tuple(
            zip((50 + radius * np.cos(angle)).tolist(), (45 + radius * np.sin(angle)).tolist(), strict=True)
        )
        polygon = Polygon((corners,))
        assert not polygon.crosses_itself
        expected = contains_xy(Shape(corners), *np.meshgrid(xs, ys))
        np.testing.assert_array_equal(polygon.contains(xs, ys), expected)


def test_a_line_that_crosses_itself_goes_around_both_its_loops():
    bow = Polygon((((0, 0), (8, 8), (8, 0), (0, 8)),))
    assert bow.crosses_itself
    inside = bow.contains(np.array([1.0, 4.0, 7.0]), np.array([0.5, 4.5, 7.5]))
    assert inside.tolist() == [[False, False, False], [True, False, True], [False, False, False]]
    twice = Polygon((((0, 0), (9, 0), (9, 9), (3, 9), (3, 3), (6, 3), (6, 6), (0, 6)),))
    assert twice.crosses_itself
    assert twice.contains(np.array([4.5]), np.array([4.5, 7.5])).tolist() == [[True], [True]]


def test_a_point_on_a_common_border_belongs_to_one_of_two():
    left, right = Polygon((((0, 0), (4, 0), (4, 8), (0, 8)),)), Polygon((((4, 0), (8, 0), (8, 8), (4, 8)),))
    xs = ys = np.arange(1.0, 8.0)
    assert (left.contains(xs, ys).astype(int) + right.contains(xs, ys) == 1).all()
