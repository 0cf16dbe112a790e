"""Outlines of labelled pixels, checked by shapely and by counting pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from shapely import box, unary_union
from shapely.geometry import Polygon

from lpd.export.rings import trace


def polygons(picture: np.ndarray) -> list[Polygon]:
    labels, _ = ndimage.label(picture)
    return [Polygon(s.exterior, s.holes) for s in trace(labels.astype(np.int32))]


def drawn(*rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows])


def test_one_pixel() -> None:
    (shape,) = trace(np.array([[0, 0], [0, 1]], np.int32))
    assert shape.exterior.tolist() == [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
    assert shape.holes == ()


def test_nothing() -> None:
    assert list(trace(np.zeros((5, 7), np.int32))) == []
    assert list(trace(np.zeros((0, 0), np.int32))) == []


def test_everything_has_four_corners() -> None:
    (shape,) = trace(np.ones((30, 40), np.int32))
    assert len(shape.exterior) == 5


@pytest.mark.parametrize(
    ("picture", "holes", "area"),
    [
        (drawn("###", "#.#", "###"), [1], 8),
        (drawn("####", "#..#", "####"), [1], 10),
        (drawn("####", "#.##", "##.#", "####"), [2], 14),  # holes that touch by a corner
        (drawn("###.", "#.##", "####"), [1], 10),  # a hole that touches the outside by a corner
        (drawn("#.", ".#"), [0, 0], 2),  # a corner does not join
        (drawn("#####", "#...#", "#.#.#", "#...#", "#####"), [0, 1], 17),  # an island in a hole
        (drawn("##.", "#.#", "###"), [0], 7),  # two pixels close a ring by a corner only
        (drawn(".##", "#.#", "###"), [0], 7),
    ],
)
def test_small_shapes(picture: np.ndarray, holes: list[int], area: int) -> None:
    shapes = polygons(picture)
    assert all(shape.is_valid for shape in shapes)
    assert sum(shape.area for shape in shapes) == area == picture.sum()
    if holes != [0]:
        assert sorted(len(shape.interiors) for shape in shapes) == holes


@pytest.mark.parametrize(("seed", "share"), [(0, 0.3), (1, 0.5), (2, 0.6), (3, 0.7), (4, 0.9)])
def test_random_pixels_give_exactly_the_union_of_their_squares(seed: int, share: float) -> None:
    picture = np.random.default_rng(seed).random((40, 50)) < share
    shapes = polygons(picture)
    assert all(shape.is_valid for shape in shapes)
    assert len(shapes) == ndimage.label(picture)[1]
    squares = unary_union([box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(picture), strict=True)])
    assert unary_union(shapes).symmetric_difference(squares).area == 0
    assert sum(shape.area for shape in shapes) == picture.sum()


def test_neighbouring_labels_share_their_border() -> None:
    labels = np.array([[1, 1, 2], [1, 2, 2]], np.int32)
    one, two = (Polygon(shape.exterior, shape.holes) for shape in trace(labels))
    assert one.touches(two)
    assert one.union(two).equals(box(0, 0, 3, 2))


def test_exterior_and_holes_run_opposite_ways() -> None:
    (shape,) = trace(drawn("###", "#.#", "###").astype(np.int32))
    assert Polygon(shape.exterior).exterior.is_ccw  # in a frame with y up; clockwise on the screen
    assert not Polygon(shape.holes[0]).exterior.is_ccw
