"""Polygons, pieces and runs that add up: every way to the same mask as one run over the whole slide."""

from __future__ import annotations

import json

import numpy as np
import pytest
from shapely import box, contains_xy
from shapely.geometry import Polygon as Shape

from lpd.errors import ConfigError
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.place import Place
from lpd.inference.store import ResultStore
from lpd.inference.wanted import BoxPixels, PolygonPixels, Wanted, pixels_of
from lpd.slide.polygon import Polygon

from .conftest import Segment, all_scores, whole_mask
from .test_going_on import SMALL, begin, levels_of

# No corner, and so no border, lies on the middle of a pixel: there shapely and the half-open rule differ.
OUTLINE = ((310.51, 150.13), (700.07, 120.29), (830.17, 600.31), (420.11, 640.37), (330.41, 380.19))
HOLE = ((500.03, 250.23), (650.09, 260.39), (560.21, 420.27))
RING = Polygon((OUTLINE, HOLE), "Ring")
CORNER = Polygon((((640.33, 500.13), (990.41, 520.07), (840.29, 760.17)),), "Corner")  # beyond the slide, too


def middles_inside(shape: tuple[int, int], scale: float, *polygons: Polygon) -> np.ndarray:
    """Which mask pixels have their middle in any of the polygons, by shapely."""
    ys, xs = (np.mgrid[: shape[0], : shape[1]] + 0.5) * scale
    return np.any([contains_xy(Shape(p.rings[0], p.rings[1:]), xs, ys) for p in polygons], axis=0)


@pytest.mark.parametrize("mpp", [0.13, 0.25, 0.499, 0.5, 0.731, 1.7])
def test_polygons_lie_where_they_were_drawn_at_any_resolution(mpp):
    frame = MaskFrame(930, 710, 1.0 / mpp)
    bounds = frame.bounds
    found = PolygonPixels([RING, CORNER], frame).read(bounds)
    expected = middles_inside((bounds.height, bounds.width), 1.0 / mpp, RING, CORNER)
    np.testing.assert_array_equal(found, expected)
    area_l0 = Shape(OUTLINE, [HOLE]).union(Shape(CORNER.rings[0])).intersection(box(0, 0, 930, 710)).area
    assert found.sum() / mpp**2 == pytest.approx(area_l0, rel=0.02)


@pytest.mark.parametrize("panel_px", [64, 96, 2000])
def test_a_polygon_is_a_part_of_the_whole_and_nothing_else_is_written(segment: Segment, panel_px):
    whole, all_of_it = segment(**SMALL)
    part, summary = segment(**{**SMALL, "panel_px": panel_px}, polygons=[RING.to_dict(), CORNER.to_dict()])
    inside = middles_inside(whole.mask_shape, 2.0, RING, CORNER)
    mask = whole_mask(part)
    np.testing.assert_array_equal(mask[inside], whole_mask(whole)[inside])
    assert (mask[~inside] == 255).all()
    scores = all_scores(part)
    np.testing.assert_array_equal(scores[scores != 255], all_scores(whole)[scores != 255])
    assert summary.windows < all_of_it.windows
    assert summary.tissue_mm2 == pytest.approx((mask < 3).sum() / 1e6)
    assert part.changes().complete


@pytest.mark.parametrize("refinement", ["none", "pamr"])
def test_runs_over_parts_and_then_the_whole_are_one_run_over_the_whole(segment: Segment, tmp_path, refinement):
    choices = {**SMALL, "refinement": refinement}
    straight, _ = segment(**choices)
    folder = tmp_path / "joined"
    _, one = segment(into=folder, resume=True, **choices, polygons=[RING.to_dict()])
    before = ResultStore.open(folder).changes()
    region = {"x_l0": 400, "y_l0": 300, "width_l0": 333, "height_l0": 301}
    both, two = segment(into=folder, resume=True, **choices, region=region)
    assert (one.kept, two.parts) == (0, 2)
    assert 0 < two.kept < 1
    expected = middles_inside(straight.mask_shape, 2.0, RING)
    expected[150:301, 200:367] = True
    mask = whole_mask(both)
    assert ((mask != 255) == expected).all()
    assert (mask[expected] == whole_mask(straight)[expected]).all()
    assert two.tissue_mm2 == pytest.approx((mask < 3).sum() / 1e6)
    assert both.changes(before.revision, before.run).rects
    joined, three = segment(into=folder, resume=True, **choices)
    for found, level in zip(levels_of(joined), levels_of(straight), strict=True):
        np.testing.assert_array_equal(found, level)
    assert three.kept == pytest.approx(expected.mean())
    assert [bool(part.ended) for part in joined.meta.parts] == [True] * 3
    assert joined.meta.region is None
    assert segment(into=folder, resume=True, **choices, polygons=[CORNER.to_dict()])[1].windows == 0


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_kill_in_a_joining_run_costs_nothing_that_was_finished(segment: Segment, backend, tmp_path, share):
    straight, all_of_it = segment(**SMALL)
    folder = tmp_path / "joined"
    first, _ = segment(into=folder, resume=True, **SMALL, polygons=[RING.to_dict()])
    had = whole_mask(first)
    begin(segment, backend, folder, round(share * all_of_it.windows), resume=True)
    store = ResultStore.open(folder)
    assert (whole_mask(store)[had != 255] == had[had != 255]).all()
    assert [log.complete for log in store.parts()] == [True, False]
    again, summary = segment(into=folder, resume=True, **SMALL)
    for found, level in zip(levels_of(again), levels_of(straight), strict=True):
        np.testing.assert_array_equal(found, level)
    assert summary.parts == 2
    assert summary.kept >= ((had != 255).sum() - 1) / had.size
    assert summary.windows <= all_of_it.windows


def test_a_killed_polygon_goes_on(segment: Segment, backend, tmp_path):
    expected, straight = segment(**SMALL, polygons=[RING.to_dict()])
    begin(segment, backend, tmp_path / "r", straight.windows - 6, polygons=[RING.to_dict()])
    store, summary = segment(into=tmp_path / "r", resume=True, **SMALL, polygons=[RING.to_dict()])
    assert 0.3 < summary.kept < 1
    for found, level in zip(levels_of(store), levels_of(expected), strict=True):
        np.testing.assert_array_equal(found, level)


def test_a_result_of_old_is_joined_to(segment: Segment, tmp_path):
    """Without parts in its description and without boxes in its log."""
    straight, _ = segment(**SMALL)
    region = {"x_l0": 300, "y_l0": 100, "width_l0": 400, "height_l0": 300}
    folder = tmp_path / "old"
    segment(into=folder, **SMALL, region=region)
    path = folder / "result.zarr" / ".zattrs"
    document = json.loads(path.read_text())
    del document["lpd"]["parts"], document["lpd"]["settings"]["polygons"], document["lpd"]["settings"]["pieces"]
    path.write_text(json.dumps(document))
    log = [json.loads(line) for line in (folder / "changes.jsonl").read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in line.items() if k != "box"}) + "\n" for line in log]
    (folder / "changes.jsonl").write_text("".join(lines))
    joined, summary = segment(into=folder, resume=True, **SMALL)
    assert 0 < summary.kept < 1
    for found, level in zip(levels_of(joined), levels_of(straight), strict=True):
        np.testing.assert_array_equal(found, level)


def test_a_piece_is_a_part_of_the_whole(segment: Segment):
    y, x = np.mgrid[:710, :930]
    pixels = np.full((710, 930, 3), 245, np.uint8)
    pixels[(x - 200) ** 2 + (y - 350) ** 2 < 150**2] = (200, 60, 60)
    pixels[(x - 700) ** 2 + (y - 350) ** 2 < 170**2] = (60, 200, 60)
    whole, _ = segment(pixels=pixels, **SMALL)
    part, _ = segment(**SMALL, pieces=[2])
    mask, expected = whole_mask(part), whole_mask(whole)
    half = mask.shape[1] // 2
    assert (mask[:, :half] == 255).all()
    right = expected[:, half:] < 3
    assert right.sum() > 20_000
    assert (mask[:, half:][right] == expected[:, half:][right]).all()
    with pytest.raises(ConfigError, match=r"painted\.png has no piece of tissue 3: it has 2, numbered from 1"):
        segment(**SMALL, pieces=[1, 3])


def test_where_pixels_are_wanted_is_told_exactly():
    frame = MaskFrame(930, 710, 2.0)
    inside = middles_inside((355, 465), 2.0, RING)
    done = Box(150, 100, 300, 200)
    wanted = Wanted(PolygonPixels([RING], frame), [BoxPixels(done)])
    expected = inside.copy()
    expected[100:200, 150:300] = False
    assert (wanted.count, wanted.kept) == (expected.sum(), (inside & ~expected).sum())
    rng = np.random.default_rng(1)
    for x, y, w, h in rng.integers((-20, -20, 1, 1), (480, 370, 90, 90), (300, 4)).tolist():
        there = expected[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
        assert wanted.any(Box(x, y, x + w, y + h)) == bool(there.any())


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        (((2000.0, 5.0), (2100.0, 5.0), (2000.0, 90.0)), r"polygon far, around \(2000, 5\), lies outside of a\.svs"),
        (((4.1, 4.1), (4.2, 4.1), (4.1, 4.2)), r"polygon far, around \(4, 4\), holds no pixel of the mask"),
    ],
)
def test_polygons_that_hold_nothing_are_named(corners, words):
    with pytest.raises(ConfigError, match=words):
        pixels_of(Place(polygons=(Polygon((corners,), "far"),)), MaskFrame(930, 710, 2.0), "a.svs", lambda: None)
