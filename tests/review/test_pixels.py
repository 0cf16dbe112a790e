"""Regions found by a click against scikit-image's labels; brush strokes against distances worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import measure

from lpd.errors import ResultError
from lpd.inference.frame import Box
from lpd.review.finding import Read, find_region
from lpd.review.pixels import Pixels, stroke, trimmed

from .conftest import blobs


def reader(mask: np.ndarray) -> Read:
    def read(x: int, y: int, size: tuple[int, int]) -> np.ndarray:
        out = np.full(size[::-1], 255, np.uint8)
        left, top = max(0, -x), max(0, -y)
        part = mask[y + top : y + size[1], x + left : x + size[0]]
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    return read


def spread(pixels: Pixels, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, np.bool_)
    box = pixels.box
    out[box.y0 : box.y1, box.x0 : box.x1] = pixels.where
    return out


@pytest.mark.parametrize("seed", range(2))
def test_a_click_finds_the_4_connected_region(seed: int) -> None:
    mask = blobs(300, 400, seed, 7)
    labels = measure.label(mask, background=256, connectivity=1)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        x, y = int(rng.integers(400)), int(rng.integers(300))
        if mask[y, x] == 255:
            with pytest.raises(ResultError, match="nothing has been computed"):
                find_region(reader(mask), x, y, Box(0, 0, 400, 300))
            continue
        found = find_region(reader(mask), x, y, Box(0, 0, 400, 300))
        assert found.value == mask[y, x]
        assert not found.cut
        assert (spread(found.pixels, mask.shape) == (labels == labels[y, x])).all()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_out_of_view_is_cut_off_and_said_so(seed: int) -> None:
    mask = blobs(300, 400, seed, 20)
    view = Box(90, 70, 330, 251)
    seen = mask[view.y0 : view.y1, view.x0 : view.x1]
    labels = measure.label(seen, background=256, connectivity=1)
    rng = np.random.default_rng(seed)
    whole = measure.label(mask, background=256, connectivity=1)
    for _ in range(8):
        x, y = int(rng.integers(view.x0, view.x1)), int(rng.integers(view.y0, view.y1))
        if mask[y, x] == 255:
            continue
        found = find_region(reader(mask), x, y, view)
        expected = np.zeros(mask.shape, np.bool_)
        expected[view.y0 : view.y1, view.x0 : view.x1] = labels == labels[y - view.y0, x - view.x0]
        assert (spread(found.pixels, mask.shape) == expected).all()
        beyond = measure.label(mask == mask[y, x], connectivity=1)
        touches = np.zeros(mask.shape, np.bool_)
        touches[1:] |= expected[:-1]
        touches[:-1] |= expected[1:]
        touches[:, 1:] |= expected[:, :-1]
        touches[:, :-1] |= expected[:, 1:]
        assert found.cut == bool((touches & ~expected & (beyond == beyond[y, x])).any())
        assert (whole == whole[y, x])[expected].all()


def test_a_region_too_large_is_refused_and_a_smaller_view_of_it_is_not() -> None:
    mask = np.zeros((40, 6000), np.uint8)
    with pytest.raises(ResultError, match="farther than 2,048 mask pixels from here: zoom in"):
        find_region(reader(mask), 3000, 20, Box(0, 0, 6000, 40))
    found = find_region(reader(mask), 3000, 20, Box(2500, 0, 3500, 40))
    assert found.pixels.box == Box(2500, 0, 3500, 40)
    assert found.cut
    with pytest.raises(ResultError, match="not in view"):
        find_region(reader(mask), 100, 20, Box(2500, 0, 3500, 40))


@pytest.mark.parametrize("seed", range(8))
def test_a_stroke_covers_the_pixels_that_are_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in rng.uniform(-5, 75, (int(rng.integers(1, 6)), 2))]
    if seed == 3:
        points = [(10.5, 20.5), (40.5, 20.5), (40.5, 60.5)]  # along rows and columns
    radius = float(rng.uniform(0.3, 15))
    ys, xs = np.mgrid[0:64, 0:72] + 0.5
    near = np.zeros((64, 72), np.bool_)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        squared = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / (squared or 1)
        along = along.clip(0, 1)
        near |= np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0)) <= radius
    found = stroke(points, radius, Box(0, 0, 72, 64))
    assert ((spread(found, (64, 72)) if found else np.zeros_like(near)) == near).all()


def test_strokes_have_a_largest_size() -> None:
    with pytest.raises(ResultError, match="more than 4,096: paint it in parts"):
        stroke([(0, 0), (5000, 0)], 3, Box(0, 0, 9000, 9000))
    assert stroke([(-50, -50)], 3, Box(0, 0, 90, 90)) is None
    assert stroke([(10, 10)], 0.4, Box(0, 0, 90, 90)) is None  # between the middles of four pixels


def test_pixels_come_back_from_text() -> None:
    where = np.random.default_rng(0).random((37, 61)) < 0.3
    pixels = trimmed(100, 200, where)
    assert pixels is not None
    again = Pixels.decoded(pixels.box, pixels.encoded())
    assert (again.where == pixels.where).all()
    for text in ("!", pixels.encoded()[:-8], Pixels(Box(0, 0, 9, 9), np.ones((9, 9), np.bool_)).encoded()):
        with pytest.raises(ValueError, match="pixels"):
            Pixels.decoded(pixels.box, text)
    assert trimmed(0, 0, np.zeros((3, 3), np.bool_)) is None
