"""Proposals: farthest points and doubt on hand-made numbers; looks of pictures whose stain is known."""

from __future__ import annotations

import numpy as np

from lpd.classes import BCSS
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.labelling.appearance import Appearance, describe, look_at
from lpd.labelling.doubt import Doubt, read_doubt, summarise
from lpd.labelling.grid import TileGrid
from lpd.labelling.proposing import FIRST, UNLIKE, Coverage, odd, propose
from lpd.slide.opening import open_pixels
from lpd.slide.region import Region
from lpd.slide.tissue import tissue_mask


def on_a_line(*places: float) -> np.ndarray:
    return np.array(places, np.float32)[:, None]


def in_order(looks: np.ndarray, covered: list[int], free: list[bool]) -> list[int]:
    coverage, left = Coverage(looks, covered), np.array(free)
    order = []
    while (place := coverage.farthest(left)) is not None:
        order.append(place)
        coverage.cover(place)
        left[place] = False
    return order


def test_the_point_farthest_from_all_that_is_covered_comes_next():
    looks, every = on_a_line(0, 1, 4, 10), [True] * 4
    assert in_order(looks, [0], [False, True, True, True]) == [3, 2, 1]
    assert in_order(looks, [0, 3], [False, True, True, False]) == [2, 1]
    # Nothing covered: the one nearest to the middle, 3.75, comes first, then the ends from it.
    assert in_order(looks, [], every) == [2, 3, 0, 1]
    assert in_order(looks, [], [False] * 4) == []
    assert in_order(np.zeros((0, 1), np.float32), [], []) == []


def test_a_few_tiles_that_look_like_nothing_else_are_odd():
    looks = np.concatenate([np.random.default_rng(0).normal(size=(99, 2)), [[40, 40]]]).astype(np.float32)
    found = odd(looks)
    assert found[99]
    assert found.sum() <= 4
    assert not odd(looks[-10:]).any()  # of ten nobody can tell


def test_a_tile_half_this_and_half_that_is_in_no_doubt():
    clear, unsure = (254, 0), (127, 127)
    places = np.array([[clear, (0, 254)], [unsure, unsure]], np.uint8)  # two tiles of 1 × 2 places, one above the other
    scores = np.repeat(np.moveaxis(places, -1, 0), 2, axis=1)  # (2 classes, 4, 2): n = 2
    margin, means = summarise(scores, 2, 1)
    np.testing.assert_allclose(margin[:, 0], [1, 0])
    np.testing.assert_allclose(means[1, 0], [0.5, 0.5], atol=0.001)
    scores[:, 0, :] = 255  # half of a tile unknown will do, more than half will not
    assert summarise(scores, 2, 1)[0][0, 0] == 1
    scores[:, 1, 0] = 255
    assert np.isnan(summarise(scores, 2, 1)[0][0, 0])


def test_a_results_scores_are_looked_up_tile_by_tile(tmp_path):
    meta = ResultMeta("a", "f", 512, 256, 0.5, 1.0, BCSS, "model", "sha256:0")
    store = ResultStore.create(tmp_path / "r", meta)
    scores = np.zeros((4, 32, 64), np.uint8)  # a cell is 4 mask pixels of 2 level-0 pixels
    scores[0, :, :32], scores[0, :, 32:], scores[1, :, 32:] = 254, 127, 125
    store.write_scores(0, 0, scores)
    store.write_mask(0, 0, np.zeros((128, 256), np.uint8))
    store.commit(Region(0, 0, 512, 256))
    store.finish()
    found = read_doubt(store, TileGrid(512, 256, 0.5, 1.0, 128))  # two tiles of 256 level-0 pixels
    np.testing.assert_allclose(found.margin, [[1, 2 / 254]], atol=1e-4)
    assert (found.model, found.in_words(1, 0)) == ("model", "TUM .50 / STR .49")


def appearance(looks: np.ndarray) -> Appearance:
    """Tiles in one row."""
    cells = np.stack([np.arange(len(looks)), np.zeros(len(looks), int)], axis=1)
    return Appearance(cells, looks, np.ones((1, len(looks)), np.float32))


def test_proposals_come_from_both_in_turn_with_reasons_and_never_twice():
    looks = appearance(on_a_line(*range(12)))
    margin = np.full((1, 12), 0.9, np.float32)
    margin[0, [4, 5, 9]] = 0.02, 0.01, 0.03
    scores = np.full((1, 12, 2), 0.5, np.float32)
    doubt = Doubt("mine", ("TUM", "STR"), margin, scores)
    found = propose(looks, [(0, 0)], doubt, 6)
    assert [one.by for one in found[:4]] == ["appearance", "doubt", "appearance", "doubt"]
    # 11 is farthest from 0; 5 is least sure; 8 is farthest from 0, 5 and 11; 9 lies beside 8, as 4 does beside 5, which
    # is less sure.
    assert [one.cell[0] for one in found[:4]] == [11, 5, 8, 4]
    assert found[1].reason == "model unsure: TUM .50 / STR .50 (mine)"
    assert found[0].reason == UNLIKE
    assert len({one.cell for one in found}) == 6
    assert found == propose(looks, [(0, 0)], doubt, 6)
    assert 11 not in [one.cell[0] for one in propose(looks, [(0, 0)], None, 12, skipped=[(11, 0)])]
    assert propose(looks, [], None, 1)[0].reason == FIRST
    assert propose(looks, [(c, 0) for c in range(12)], doubt, 3) == []


def test_a_stain_is_told_from_another_and_flat_from_rough():
    def colour(*density: float) -> np.ndarray:
        return np.tile(np.uint8(np.rint(256 * 10.0 ** -np.array(density) - 1)), (8, 8, 1))

    blue = describe(colour(0.65, 0.70, 0.29))  # pure hematoxylin, of a density of 1 along (0.65, 0.70, 0.29)
    length = np.linalg.norm([0.65, 0.70, 0.29])
    np.testing.assert_allclose(blue[:3], [length, 0, 0], atol=0.01)
    np.testing.assert_allclose(blue[3:], 0, atol=1e-6)
    rough = colour(0.65, 0.70, 0.29)
    rough[::2] = 255
    assert describe(rough)[5] > 0.4
    half = colour(0.65, 0.70, 0.29)
    half[:, 4:] = 250  # glass: it is no look of the tissue
    np.testing.assert_allclose(describe(half, half[..., 0] < 200), blue, atol=1e-6)


def test_glass_is_never_proposed():
    rng = np.random.default_rng(0)
    pixels = np.full((640, 1280, 3), 240, np.uint8)
    pixels[:, :640] = rng.integers(90, 180, (640, 640, 3))
    pixels[64:128, 64:128] = 240
    pixels[96:98, 64:128] = 120  # a thin line in a hole
    slide = open_pixels(pixels, 1.0)
    found = look_at(slide, TileGrid(1280, 640, 1.0, 1.0, 64), tissue_mask(slide))
    assert set(map(tuple, found.cells.tolist())) == {(c, r) for c in range(10) for r in range(10)} - {(1, 1)}
    fewer = look_at(slide, TileGrid(1280, 640, 1.0, 1.0, 64), tissue_mask(slide), most=7)
    assert len(fewer.cells) == 7
