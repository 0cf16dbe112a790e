"""Wide slides are computed in bands: the very same pixels, cut through glass where there is some."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.inference.bands import bands
from lpd.inference.frame import Box
from lpd.inference.windows import Plan, WindowGrid, plan_windows

from .conftest import whole_mask
from .test_going_on import SMALL, begin, levels_of
from .test_joining import RING
from .test_prototype_maps import MappedBackend, all_levels


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The painted slide, 465 mask px wide, becomes four bands."""
    monkeypatch.setattr("lpd.inference.bands._WIDEST_PX", 128)
    monkeypatch.setattr("lpd.inference.bands.BLOCK_PX", 4)


def plan_of(width: int, has_tissue=lambda _box: True) -> Plan:
    return plan_windows(WindowGrid(width, 600, 544, 448, 64, 224), Box(0, 0, width, 600), has_tissue)


def test_a_slide_of_usual_width_is_not_cut():
    assert bands(plan_of(8192)) == [Box(0, 0, 8192, 600)]


def test_bands_cover_what_is_wanted_once_and_are_about_as_wide():
    found = bands(plan_of(50_000))
    assert [box.x0 for box in found] == [0, *(box.x1 for box in found[:-1])]
    assert found[-1].x1 == 50_000
    assert all(6000 < box.width < 8960 for box in found)
    assert all(box.x1 % 512 == 0 for box in found[:-1])


def test_cuts_go_through_glass():
    glass = range(7200, 8500)  # an equal cut would be at 8000, which windows to its right and left need
    found = bands(plan_of(16_000, lambda box: box.x1 <= glass.start or box.x0 >= glass.stop))
    assert found[0].x1 in range(7500, 8300)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("choices", [{}, {"region": {"x_l0": 133, "y_l0": 77, "width_l0": 700, "height_l0": 560}}])
def test_bands_change_no_pixel(segment, monkeypatch, choices):
    found, summary = segment(**SMALL, **choices)
    monkeypatch.undo()
    expected, straight = segment(**SMALL, **choices)
    for ours, theirs in zip(levels_of(found), levels_of(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert summary.windows == summary.planned_windows > straight.windows
    assert summary.tissue_mm2 == pytest.approx(straight.tissue_mm2)
    assert found.changes().complete


@pytest.mark.usefixtures("narrow")
def test_bands_change_no_refined_pixel(segment, monkeypatch):
    found, _ = segment(**SMALL, refinement="pamr")
    monkeypatch.undo()
    expected, _ = segment(**SMALL, refinement="pamr")
    np.testing.assert_array_equal(whole_mask(found), whole_mask(expected))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("share", [0.3, 0.45, 0.7, 0.97])
def test_a_run_killed_in_any_band_goes_on_to_the_same_result(segment, backend, tmp_path, share):
    expected, straight = segment(**SMALL)
    begin(segment, backend, tmp_path / "killed", round(share * straight.windows))
    store, summary = segment(into=tmp_path / "killed", resume=True, **SMALL)
    for found, level in zip(levels_of(store), levels_of(expected), strict=True):
        np.testing.assert_array_equal(found, level)
    assert summary.tissue_mm2 == pytest.approx(straight.tissue_mm2)
    assert share - 0.15 < summary.kept < share
    assert summary.windows < straight.windows


def test_what_was_begun_without_bands_goes_on_in_bands(segment, backend, tmp_path, monkeypatch):
    expected, straight = segment(**SMALL)
    begin(segment, backend, tmp_path / "killed", round(0.6 * straight.windows))
    monkeypatch.setattr("lpd.inference.bands._WIDEST_PX", 128)
    monkeypatch.setattr("lpd.inference.bands.BLOCK_PX", 4)
    store, summary = segment(into=tmp_path / "killed", resume=True, **SMALL)
    assert summary.kept > 0
    np.testing.assert_array_equal(whole_mask(store), whole_mask(expected))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("choices", [{}, {"region": {"x_l0": 133, "y_l0": 77, "width_l0": 700, "height_l0": 560}}])
def test_bands_change_no_byte_of_prototype_maps(segment, backend, monkeypatch, choices):
    mapped = MappedBackend(backend.info.path)
    found, banded = segment(using=mapped, prototype_maps=True, **SMALL, **choices)
    monkeypatch.undo()
    expected, straight = segment(using=mapped, prototype_maps=True, **SMALL, **choices)
    assert banded.windows > straight.windows
    for ours, theirs in zip(all_levels(found), all_levels(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(whole_mask(found), whole_mask(expected))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("maps", [False, True])
def test_parts_in_bands_and_then_the_whole_are_one_run_without_bands(segment, backend, tmp_path, monkeypatch, maps):
    choices = {**SMALL, "using": MappedBackend(backend.info.path), "prototype_maps": maps}
    into = {"into": tmp_path / "joined", "resume": True}
    region = {"x_l0": 400, "y_l0": 300, "width_l0": 333, "height_l0": 301}  # 166 mask px: two bands
    segment(**into, **choices, polygons=[RING.to_dict()])
    segment(**into, **choices, region=region)
    joined, last = segment(**into, **choices)
    monkeypatch.undo()
    expected, straight = segment(**choices)
    assert last.parts == 3
    assert 0 < last.kept < 1
    assert last.tissue_mm2 == pytest.approx(straight.tissue_mm2)
    for ours, theirs in zip(levels_of(joined), levels_of(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if maps:
        for ours, theirs in zip(all_levels(joined), all_levels(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)
