"""The mask made again at any zoom, and the areas with it: what all its pixels made again give."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lpd.data.phantom import write_phantom_slide
from lpd.errors import ResultError
from lpd.export.areas import areas
from lpd.inference import recomputed_tiles
from lpd.inference.backend import load_backend
from lpd.inference.frame import Box
from lpd.inference.recomputed_tiles import recomputed_areas, recomputed_tile
from lpd.inference.recomputing import recomputed_mask
from lpd.inference.store import ResultStore
from lpd.slide.region import Region

from .conftest import Segment, whole_mask
from .test_prototype_maps import PHANTOM, MappedBackend, mapped, segmented  # noqa: F401  # a fixture

SOME, MANY = {1}, {0, 2, 4, 6}


class UnitedBackend(MappedBackend):
    def planned_maps(self, *, adapt: bool):
        maps = super().planned_maps(adapt=adapt)
        return dataclasses.replace(maps, merge="union")


class ScaledBackend(UnitedBackend):
    """A union over two scales, whose maps are kept one by one."""

    def planned_maps(self, *, adapt: bool):
        maps = super().planned_maps(adapt=adapt)
        fine = dataclasses.replace(maps.layers[0], name="scale1", scale=1, weight=0.5)
        coarse = dataclasses.replace(fine, name="scale2", scale=2, stride_px=16)
        return dataclasses.replace(maps, layers=(fine, coarse, maps.layers[1]))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_slide(folder / "unseen.tif", 1280, 1024, 32)
    return segmented(folder / "unseen.tif", load_backend(PHANTOM, "cpu"), folder / "out")


def shrunk(store: ResultStore, factor: int) -> tuple[Region, tuple[int, int]]:
    """The whole mask, so many times smaller, and the address of that."""
    width, height = (n // factor for n in store.meta.mask_size)
    side = round(factor * store.meta.scale)
    return Region(0, 0, width * side, height * side), (width, height)


def alike(store: ResultStore, factor: int, muted=(), merged=()) -> float:
    """Share of tissue pixels of an overview with the class that all mask pixels made again have there."""
    region, size = shrunk(store, factor)
    ys, xs, _ = store.mask_places(region, size)
    full = recomputed_mask(store, Box(0, 0, *store.meta.mask_size), muted, merged)[np.ix_(ys, xs)]
    tile, stored = recomputed_tile(store, region, size, muted, merged), store.read_mask(region, size)
    tissue = stored < store.meta.classes.background
    np.testing.assert_array_equal(tile[~tissue], stored[~tissue])
    return float((tile == full)[tissue].mean())


def test_fine_tiles_are_the_mask_made_again(segment: Segment, mapped: MappedBackend):  # noqa: F811
    store, _ = segment(using=mapped, prototype_maps=True)
    full = recomputed_mask(store, Box(0, 0, 465, 355), SOME)
    tile = recomputed_tile(store, Region(200, 96, 256, 128), (256, 128), SOME)  # two level-0 pixels are one of the mask
    np.testing.assert_array_equal(tile, full[48:112, 100:228].repeat(2, 0).repeat(2, 1))
    tile = recomputed_tile(store, Region(-20, 600, 200, 200), (100, 100), SOME)
    assert (tile[:, :10] == 255).all()
    assert (tile[55:] == 255).all()
    np.testing.assert_array_equal(tile[:55, 10:], full[300:355, :90])


def test_where_a_mask_is_read_is_what_it_shows(segment: Segment, mapped: MappedBackend):  # noqa: F811
    store, _ = segment(using=mapped, prototype_maps=True)
    full = whole_mask(store)
    for region, size in (Region(3, 5, 900, 700), (31, 23)), (Region(0, 0, 930, 710), (300, 200)):
        ys, xs, _ = store.mask_places(region, size)
        np.testing.assert_array_equal(store.read_mask(region, size), full[np.ix_(ys, xs)])


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_tiles_of_colours_at_any_zoom(segment: Segment, mapped: MappedBackend, factor: int):  # noqa: F811
    store, _ = segment(using=mapped, prototype_maps=True)
    for muted in ((), SOME, {2, 3}):
        assert alike(store, factor, muted) >= 0.97
    assert not (recomputed_tile(store, *shrunk(store, factor), {2, 3}) == 1).any()  # both of green


@pytest.mark.parametrize("factor", [2, 8])
def test_unions_kept_by_scale_at_any_zoom(segment: Segment, mapped: MappedBackend, factor: int):  # noqa: F811
    store, _ = segment(using=ScaledBackend(mapped.info.path), prototype_maps=True)
    for muted, merged in ((), ()), (SOME, ()), ((), [(0, 1)]):
        assert alike(store, factor, muted, merged) >= 0.97


@pytest.mark.parametrize("muted", [(), SOME, MANY])
def test_overviews_of_a_phantom_keep_97_percent_of_tissue(phantom: ResultStore, muted):
    assert alike(phantom, 8, muted) >= 0.97
    assert alike(phantom, 32, muted) >= 0.97


def test_farther_apart_than_the_cells_read_96_percent_are_alike(phantom: ResultStore, monkeypatch):
    monkeypatch.setattr(recomputed_tiles, "_MANY_CELLS", 0)  # as of a slide 20 times as large
    assert alike(phantom, 16) >= 0.99
    assert alike(phantom, 16, SOME) >= 0.96
    assert alike(phantom, 16, MANY) >= 0.96
    assert not (recomputed_tile(phantom, *shrunk(phantom, 16), {0, 1, 2}) == 0).any()


def test_merging_is_the_mean_of_the_maps(segment: Segment, mapped: MappedBackend):  # noqa: F811
    store, _ = segment(using=mapped, prototype_maps=True)
    united, _ = segment(using=UnitedBackend(mapped.info.path), prototype_maps=True)
    box, pairs = Box(0, 0, *store.meta.mask_size), [(0, 1), (2, 3), (5, 4)]
    plain = recomputed_mask(store, box)
    np.testing.assert_array_equal(recomputed_mask(store, box, merged=pairs), plain)  # the mean of a mean
    np.testing.assert_array_equal(recomputed_mask(united, box, merged=pairs), plain)  # a union of one
    region, size = shrunk(store, 4)
    np.testing.assert_array_equal(
        recomputed_tile(united, region, size, merged=pairs), recomputed_tile(store, region, size, merged=pairs)
    )
    # The union of the colour + 2 and − 2 lies log cosh 2 above their mean: what is merged alone gets smaller.
    alone = recomputed_mask(united, box, merged=[(0, 1)])
    assert (alone == 0).sum() < 0.95 * (plain == 0).sum()
    np.testing.assert_array_equal(alone == 0, (alone == 0) & (plain == 0))


def test_areas_are_those_of_all_pixels(phantom: ResultStore):
    found = recomputed_areas(phantom, MANY)
    stored = [row.area_mm2 for row in areas(phantom)]
    np.testing.assert_allclose(found.stored, stored, rtol=0.02)
    for muted, counted in (((), found.before), (MANY, found.after)):
        full = recomputed_mask(phantom, Box(0, 0, *phantom.meta.mask_size), muted)
        expected = np.bincount(full.ravel(), minlength=256)[:4] * 1e-6
        np.testing.assert_allclose(counted, expected, rtol=0.03)
    assert sum(found.before) == pytest.approx(sum(found.after)) == pytest.approx(found.places * 16e-6)
    gone = recomputed_areas(phantom, {3, 4, 5})
    assert gone.before == found.before
    assert gone.after[1] == 0
    same = recomputed_areas(phantom)
    assert same.before == same.after


def test_areas_of_a_large_slide_are_counted_at_fewer_places(phantom: ResultStore, monkeypatch):
    exact = recomputed_areas(phantom, SOME)
    monkeypatch.setattr(recomputed_tiles, "_MOST_PLACES", 1500)
    monkeypatch.setattr(recomputed_tiles, "_BLOCK", 20)
    found = recomputed_areas(phantom, SOME)
    assert (exact.step_px, found.step_px) == (4, 16)
    np.testing.assert_allclose(found.after, exact.after, atol=0.02 * sum(exact.after))


@pytest.mark.parametrize(
    ("muted", "merged", "words"),
    [
        ((), [(0,)], "merging prototype 0 alone changes nothing: name two or more"),
        ((), [(1, 2)], "prototypes 1, 2 are of different classes: only those of one class can be merged"),
        ((0,), [(0, 1)], "prototype 0 is muted and cannot be merged: unmute it, or leave it out"),
        ((), [(0, 1), (1, 0)], "prototype 0 is merged twice"),
        ((), [(0, 6)], "prototype 6 does not exist: this result has 6 prototypes"),
    ],
)
def test_what_cannot_be_merged_is_refused(segment, mapped, tmp_path: Path, muted, merged, words):  # noqa: F811
    store, _ = segment(using=mapped, prototype_maps=True, region=Region(400, 200, 64, 64))
    with pytest.raises(ResultError, match=words):
        recomputed_tile(store, Region(0, 0, 8, 8), (8, 8), muted, merged)
