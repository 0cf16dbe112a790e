"""Figures of merit over slides: hand-made maps with known answers, and the data set's own measures."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lpd.errors import ResultError
from lpd.explain import array_measures, figures, measures
from lpd.explain.cell_sample import drawing_keys
from lpd.explain.slide_figures import DEFINITIONS, pooled_figures, slide_figures
from lpd.losses.diversity import jeffreys_divergences

from .conftest import TILE, Made, waves


def checker() -> np.ndarray:
    """(16, 24): the left half of each tile."""
    return np.tile(np.arange(24) % TILE < TILE // 2, (16, 1))


# By hand


def test_disjoint_prototypes(made: Made):
    """In each of six tiles of class AAA one prototype is at 254 on the left half, the other on the right, else 127."""
    left = checker()
    maps = np.stack([np.where(left, 254, 127), np.where(left, 127, 254), np.full((16, 24), 90), np.full((16, 24), 80)])
    found = slide_figures(made(maps, np.zeros((16, 24))))
    own = found.classes[0]
    p = 1 / (1 + math.exp(-1 / 0.07))  # mass of a map's own half: cosines 1 and 0
    assert own.jeffreys_similarity == pytest.approx(math.exp(-2 * (2 * p - 1) / 0.07), abs=1e-9)
    assert (own.map_cosine, own.map_iou, own.union_coverage) == (pytest.approx(-1), 0, 1)
    assert own.effective_prototypes == pytest.approx(2)
    assert own.map_silhouette == 1  # two places, and nothing between
    assert own.usage == (0.5, 0.5)
    np.testing.assert_allclose(own.correlations, [[1, -1], [-1, 1]])
    assert (own.cells, own.tiles, own.dead, own.near_duplicates) == (384, 6, (), ())
    nothing = found.classes[1]
    assert (nothing.cells, nothing.tiles, nothing.usage, nothing.dead) == (0, 0, None, ())
    assert {nothing.to_dict()[name] for name in found.total.to_dict()} == {None}
    assert np.isnan(nothing.correlations).all()
    assert found.total.to_dict() == pytest.approx({k: getattr(own, k) for k in found.total.to_dict()})
    assert (found.step_um, found.tile_um, found.per_class) == (8, 64, 2)


def test_equal_prototypes_are_duplicates_and_the_first_counts(made: Made):
    one = waves(1, 16, 24)[0]
    third = np.where(checker(), 0, 254)  # wins the right half alone
    found = slide_figures(made(np.stack([one, one, third] * 2), np.zeros((16, 24)))).classes[0]
    assert found.jeffreys_similarity == pytest.approx((1 + 2 * 0) / 3, abs=0.02)
    assert found.usage == pytest.approx((0.5, 0, 0.5), abs=0.01)
    assert found.dead == (1,)
    assert [pair[:2] for pair in found.near_duplicates] == [(0, 1)]
    assert found.near_duplicates[0][2] == pytest.approx(1)
    assert found.effective_prototypes == pytest.approx(2, abs=0.01)


def test_silhouette_of_cells_by_hand(made: Made):
    """Four sorts of cells, the points (140, 130), (160, 130), (130, 140) and (130, 170), as many of each."""
    sort = np.tile(np.arange(24) % 4, (16, 1))  # 384 cells of AAA, all of which are drawn
    maps = np.stack([np.choose(sort, [140, 160, 130, 130]), np.choose(sort, [130, 130, 140, 170])])
    found = slide_figures(made(maps, np.zeros((16, 24)), ("AAA",))).classes[0]
    near, n = math.hypot(10, 10), 96
    expected = []
    for to_own, to_others in (
        (20, (near, math.hypot(10, 40))),
        (20, (math.hypot(30, 10), math.hypot(30, 40))),
        (30, (near, math.hypot(30, 10))),
        (30, (math.hypot(10, 40), math.hypot(30, 40))),
    ):
        inner, outer = to_own * n / (2 * n - 1), sum(to_others) / 2
        expected.append((outer - inner) / max(inner, outer))
    assert found.map_silhouette == pytest.approx(sum(expected) / 4)
    alone = slide_figures(made(np.stack([maps[0], maps[0] - 1]), np.zeros((16, 24)), ("AAA",))).classes[0]
    assert alone.map_silhouette is None  # one wins everywhere


def test_array_silhouette_equals_a_loop():
    rng = np.random.default_rng(0)
    points, clusters = rng.normal(size=(40, 3)), rng.integers(0, 3, 40) * 5
    points[0], clusters[0] = 9, 99  # alone in its cluster
    scores = []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        means = {}
        for name in {*clusters[others]}:
            reached = [math.dist(points[i], points[j]) for j in others if clusters[j] == name]
            means[name] = sum(reached) / len(reached)
        a = means.get(clusters[i])
        b = min(mean for name, mean in means.items() if name != clusters[i])
        scores.append(0 if a is None else (b - a) / max(a, b))
    assert array_measures.silhouette(points, clusters) == pytest.approx(sum(scores) / 40)
    assert math.isnan(array_measures.silhouette(points, np.ones(40, np.int64)))


def test_cosines_of_prototypes_come_with_the_result(made: Made):
    maps, classes = waves(6, 16, 24), np.zeros((16, 24))
    found = slide_figures(made(maps, classes, cosines=(0.25, None)))
    assert [own.prototype_cosine for own in found.classes] == [0.25, None]  # without a region, too
    assert found.total.prototype_cosine == 0.25
    assert slide_figures(made(maps, classes)).total.prototype_cosine is None  # a result of before


def test_the_cells_that_are_drawn_are_spread_evenly():
    keys = np.concatenate([drawing_keys(1, slice(top, top + 64), slice(0, 256)).ravel() for top in range(0, 256, 64)])
    assert len(np.unique(keys)) == 256**2
    assert np.array_equal(keys, drawing_keys(1, slice(0, 256), slice(0, 256)).ravel())
    drawn = np.argsort(keys)[:512]
    by_square = np.bincount(drawn // 256 // 64 * 4 + drawn % 256 // 64, minlength=16)  # 32 each, give or take
    assert ((by_square - 32) ** 2 / 32).sum() < 37.7  # chi-squared, 15 degrees of freedom: one in a thousand is above


def test_equally_high_cells_are_shared(made: Made):
    """Equal on the left half, the first is higher on a quarter, the second on a quarter."""
    x = np.arange(24)[None].repeat(16, 0) % TILE
    first = np.where(x < 4, 200, np.where(x < 6, 180, 170))
    second = np.where(x < 4, 200, np.where(x < 6, 150, 190))
    found = slide_figures(made(np.stack([first, second]), np.zeros((16, 24)), ("AAA",))).classes[0]
    assert found.usage == (0.5, 0.5)
    lower = np.where(second == 190, 170, second)  # never higher, a quarter lower
    found = slide_figures(made(np.stack([first, lower]), np.zeros((16, 24)), ("AAA",))).classes[0]
    assert found.usage == pytest.approx((5 / 8, 3 / 8))


def test_half_of_the_maximum_is_taken_in_each_tile(made: Made):
    """A tile a hundred times as bright changes nothing in the others: coverage is a quarter in each."""
    maps = np.full((2, 8, 16), 100)
    maps[:, :4, :4], maps[:, :4, 8:12] = 110, 250
    found = slide_figures(made(maps, np.zeros((8, 16)), ("AAA",))).classes[0]
    assert found.union_coverage == pytest.approx(1 / 4)
    assert found.map_iou == 1


def test_only_the_class_region_counts(made: Made):
    """Outside of it maps do the contrary; so do glass and cells without maps; a region of one cell is none."""
    classes = np.full((16, 24), 1)
    classes[:8, :8] = 0
    classes[12, 20] = 0
    classes[:8, 8:16] = 2
    maps = np.repeat(waves(2, 16, 24), 2, axis=0)  # pairs of equal ones
    maps[1, classes != 0] = 254 - maps[0, classes != 0]
    maps[:, 8:12] = 255
    found = slide_figures(made(maps, classes))
    own = found.classes[0]
    assert (own.cells, own.tiles, own.jeffreys_similarity) == (64, 1, pytest.approx(1))
    assert own.usage == (1, 0)
    assert found.classes[1].cells == 8 * 8 + 3 * 4 * 8 - 1
    assert found.classes[1].tiles == 4


def test_one_prototype_per_class_has_no_pairs(made: Made):
    found = slide_figures(made(waves(2, 16, 24), np.zeros((16, 24))))
    own = found.classes[0]
    assert (own.jeffreys_similarity, own.map_cosine, own.map_iou) == (None, None, None)
    assert (own.effective_prototypes, own.usage) == (1, (1,))
    assert found.total.jeffreys_similarity is None


def test_figures_are_plain_json_and_all_are_defined(made: Made):
    maps = waves(4, 16, 24)
    maps[3] = 7  # the same all over
    found = slide_figures(made(maps, np.tile([0, 1], (16, 12)))).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    named = {*found["classes"]["AAA"]} - {"cells", "tiles"}
    assert named <= DEFINITIONS.keys()
    assert {*figures._TILE_FIGURES, "effective_prototypes", "prototype_cosine", "silhouette"} <= DEFINITIONS.keys()
    assert all(text.endswith(".") and text.count(". ") == 0 for text in DEFINITIONS.values())


# Against the data set's measures


def random_tiles(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(9, 4, 8, 8) bytes of maps and (9, 8, 8) regions of a class: many, few, two, one and no cells."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(60, 200, (9, 4, 8, 8))
    maps[2, 1] = 100  # the same all over
    regions = rng.uniform(size=(9, 8, 8)) < np.array([0.9, 0.5, 0.5, 0.3, 0.2, 0.1, 1, 0, 0])[:, None, None]
    regions[7, 3, 3] = regions[7, 4, 4] = True
    return maps, regions


def test_array_measures_equal_those_of_tensors():
    maps, regions = random_tiles(0)
    maps, regions = maps[:8], regions[:8]
    values = (maps / 127 - 1).astype(np.float32)
    flat, inside = values.reshape(8, 4, 64), regions.reshape(8, 64)
    tensors, marks = torch.from_numpy(values)[:, None], torch.from_numpy(regions)[:, None]
    close = {"rtol": 1e-4, "atol": 1e-5}
    expected = torch.exp(-jeffreys_divergences(tensors, marks))[:, 0].numpy()
    np.testing.assert_allclose(array_measures.jeffreys_similarities(flat, inside), expected, **close)
    np.testing.assert_allclose(
        array_measures.centred_cosines(flat, inside), measures.centred_cosines(tensors, marks)[:, 0].numpy(), **close
    )
    sets, own = measures.half_maximum_sets(tensors, marks), array_measures.half_maximum_sets(flat, inside)
    np.testing.assert_array_equal(own, sets[:, 0].flatten(2).numpy())
    ious = measures.intersections_over_unions(sets)
    np.testing.assert_allclose(array_measures.intersections_over_unions(own), ious[:, 0].numpy(), **close)
    np.testing.assert_allclose(
        array_measures.pair_mean(ious[:, 0].numpy()), measures.pair_mean(ious)[:, 0].numpy(), **close
    )
    covered = measures.union_coverage(sets, marks)[:, 0].numpy()
    np.testing.assert_allclose(array_measures.union_coverage(own, inside), covered, **close)
    counts = np.array([5.0, 0, 3, 1])
    assert array_measures.effective_count(counts) == pytest.approx(
        float(measures.effective_count(torch.tensor(counts)))
    )
    assert math.isnan(array_measures.effective_count([0.0, 0.0]))


def tallied(maps: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """What the data set's tally says of the tiles of (6, h, w) maps."""
    tally = figures._Tally(("AAA", "BBB"), 3, 3)
    for top in range(0, classes.shape[0], TILE):
        for left in range(0, classes.shape[1], TILE):
            cut = slice(top, top + TILE), slice(left, left + TILE)
            cosines = torch.from_numpy(maps[(slice(None), *cut)].astype(np.float32))[None]
            output = SimpleNamespace(prototype_cosines={3: cosines}, features={3: cosines[:, :2]})
            tally.add(output, classes[cut][None].astype(np.uint8))
    return tally.summary(torch.eye(6))


def test_a_slide_says_what_a_data_set_of_its_tiles_says(made: Made):
    """Two classes that share tiles; the data set's tally is fed the same tiles as its output and masks."""
    rng = np.random.default_rng(3)
    maps = waves(6, 24, 40, seed=4)
    classes = np.where(rng.uniform(size=(24, 40)) < 0.5, 0, 1)
    classes[8:16, :8] = 0
    classes[16:, 32:] = 2
    found = slide_figures(made(maps, classes))
    expected = tallied(maps / 127 - 1, classes)
    exact = tallied((maps.astype(int) - 127) / 128, classes)  # in float32, so that a half is a half
    for name in figures._TILE_FIGURES:
        told = expected if name in ("jeffreys_similarity", "map_cosine") else exact
        assert getattr(found.total, name) == pytest.approx(told[name], rel=1e-4), name
        for own in found.classes:
            assert getattr(own, name) == pytest.approx(told["classes"][own.code][name], rel=1e-4), name
    for own in found.classes:
        row = expected["classes"][own.code]
        assert (own.cells, own.tiles) == (row["map_pixels"], row["tiles"])
        assert own.usage == pytest.approx(row["usage"], abs=0.02)  # equally high cells are shared here
        inside = classes == "ABC".index(own.code[0])
        k = "ABC".index(own.code[0]) * 3
        expected_table = np.corrcoef(maps[k : k + 3][:, inside])
        np.testing.assert_allclose(own.correlations, expected_table, atol=1e-3)  # a single cell in a tile is none


@pytest.mark.parametrize("maps_of", [2, 30])
def test_squares_leave_no_trace(made: Made, monkeypatch: pytest.MonkeyPatch, maps_of: int):
    """Read at once and tile by tile."""
    maps = waves(maps_of, 30, 44)
    store = made(maps, np.zeros((30, 44)), ("AAA",), cosines=(0.5,))
    whole = slide_figures(store)
    monkeypatch.setattr("lpd.explain.slide_maps._SQUARE_BYTES", 1)
    parts = slide_figures(store)
    assert parts.classes[0].tiles == whole.classes[0].tiles == 24
    assert parts.total.to_dict() == pytest.approx(whole.total.to_dict(), rel=1e-3)
    np.testing.assert_array_equal(parts.classes[0].correlations, whole.classes[0].correlations)


def test_large_slides_are_looked_at_at_every_second_cell(made: Made):
    maps = waves(2, 32, 48)
    store = made(maps, np.zeros((32, 48)), ("AAA",))
    found = slide_figures(store, most_values=2 * 32 * 48 - 1)
    assert (found.step_um, found.tile_um) == (16, 112)  # 7 cells at least
    np.testing.assert_allclose(found.classes[0].correlations, np.corrcoef(maps[:, ::2, ::2].reshape(2, -1)), atol=0.05)
    assert found.classes[0].cells == 16 * 24


def test_slides_together_are_one_with_all_their_tiles(made: Made):
    """Two slides of 2 × 3 tiles say together what one of 4 × 3 says."""
    maps, classes = waves(4, 32, 24), np.tile([0, 1, 1], (32, 8))
    parts = [made(maps[:, own], classes[own]) for own in (slice(0, 16), slice(16, 32))]
    together, whole = pooled_figures(parts), slide_figures(made(maps, classes))
    assert together.slide_name == "2 slides"
    drawn = ("map_silhouette",)  # of other cells
    totals = [{k: v for k, v in own.total.to_dict().items() if k not in drawn} for own in (together, whole)]
    assert totals[0] == pytest.approx(totals[1])
    assert together.total.map_silhouette == pytest.approx(whole.total.map_silhouette, abs=0.05)
    for own, expected in zip(together.classes, whole.classes, strict=True):
        assert (own.cells, own.tiles, own.usage) == (expected.cells, expected.tiles, pytest.approx(expected.usage))
        np.testing.assert_allclose(own.correlations, expected.correlations)
    other = made(maps, classes, checkpoint_digest="sha256:2", checkpoint_name="second")
    with pytest.raises(ResultError, match=r"by model and .* by another model, second: ask for the results of one"):
        pooled_figures([*parts, other])


def test_of_an_edited_checkpoint_counts_what_it_counts(made: Made):
    """Four a class; of AAA the second is muted, the first and the last are one; the first of BBB is muted."""
    maps, classes = waves(8, 16, 24) // 2 * 2, np.tile([0, 1], (16, 12))
    maps[3] = maps[0] + 2 * np.random.default_rng(0).integers(-9, 9, (16, 24))
    edited = (((0, 3), (2,)), ((5,), (6,), (7,)))
    found = slide_figures(made(maps, classes, edited=edited))
    mean = (maps[0].astype(int) + maps[3]) // 2
    whole = np.stack([mean, maps[2], maps[2], *maps[5:]])
    first, second = slide_figures(made(whole[[0, 1]], classes, codes=("AAA",))), slide_figures(made(whole, classes))
    aaa, bbb = found.classes
    assert (aaa.counted, bbb.counted) == ((0, 2), (1, 2, 3))
    np.testing.assert_allclose(aaa.usage, [first.classes[0].usage[0], 0, first.classes[0].usage[1], 0])
    np.testing.assert_allclose(bbb.usage, [0, *second.classes[1].usage])
    assert (aaa.dead, bbb.dead) == ((), ())
    for own, expected in ((aaa, first.classes[0]), (bbb, second.classes[1])):
        for name in found.total.to_dict():
            assert getattr(own, name) == pytest.approx(getattr(expected, name)), name
        np.testing.assert_allclose(own.correlations[np.ix_(own.counted, own.counted)], expected.correlations)
    assert np.isnan(aaa.correlations[1]).all()
