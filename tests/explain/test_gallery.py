"""Gallery: hand-made maps whose brightest places are known, and a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.errors import ConfigError, ResultError
from lpd.explain.gallery import top_regions, unit_of
from lpd.inference.prototype_layers import LINEAR_LIMIT, MapLayer

from .conftest import Made, waves


def test_the_brightest_windows_come_first(made: Made):
    """Bright squares of 8 cells (64 mask px, 128 level-0 px), by hand, at places that are half tiles."""
    maps = np.full((2, 40, 48), 127)
    maps[0, 4:12, 8:16], maps[0, 24:32, 32:40], maps[1, 16:24, 0:8] = 254, 200, 180
    found = top_regions([("a", made(maps, np.zeros((40, 48)), ("AAA",)))], per_prototype=2, per_slide=2)
    first, second = found[0]
    assert (first.slide, first.x_l0, first.y_l0, first.width_l0, first.height_l0) == ("a", 128, 64, 128, 128)
    assert first.score == pytest.approx(1)
    assert (second.x_l0, second.y_l0, second.score) == (512, 384, pytest.approx(200 / 127 - 1))
    assert (found[1][0].x_l0, found[1][0].y_l0) == (0, 256)
    assert first.region.right_l0 == 256


def test_scores_of_a_linear_head_are_logits(made: Made):
    """One map a class, kept between ±32: byte 190.5 on average is half of that."""
    layers = (MapLayer("fused", "pixel", 1, 8, LINEAR_LIMIT), MapLayer("gate", "gate", 1, 16, LINEAR_LIMIT))
    maps = np.full((1, 16, 16), 190)
    maps[0, :, ::2] = 191
    store = made(maps, np.zeros((16, 16)), ("AAA",), layers=layers)
    assert [unit_of(store), top_regions([("a", store)])[0][0].score] == ["logit", pytest.approx(16)]


def brute_force(maps: np.ndarray, tissue: np.ndarray, most: int) -> list[tuple[int, int, float]]:
    """(row, column, score) of windows of 8 × 8 cells at every 4, greedily without overlaps."""
    height, width = tissue.shape
    windows = []
    for y in range(0, height, 4):
        for x in range(0, width, 4):
            own = tissue[y : y + 8, x : x + 8]
            if own.sum() >= 32:
                windows.append((y, x, (maps[y : y + 8, x : x + 8][own] / 127 - 1).mean()))
    windows.sort(key=lambda w: (-round(w[2], 6), w[0], w[1]))
    chosen: list[tuple[int, int, float]] = []
    for y, x, score in windows:
        if all(abs(y - b) >= 8 or abs(x - a) >= 8 for b, a, _ in chosen):
            chosen.append((y, x, score))
    return chosen[:most]


@pytest.mark.parametrize("square_bytes", [4_000_000, 1])
def test_it_is_the_greedy_choice_of_all_windows(made: Made, monkeypatch: pytest.MonkeyPatch, square_bytes: int):
    monkeypatch.setattr("lpd.explain.slide_maps._SQUARE_BYTES", square_bytes)
    maps = waves(4, 61, 75)
    classes = np.where(np.random.default_rng(0).uniform(size=(61, 75)) < 0.2, 2, 0)
    classes[20:40, 30:60] = 2
    store = made(maps, classes)
    found = top_regions([("a", store)], per_prototype=6, per_slide=6)
    for own, expected in zip(found, (brute_force(m, classes < 2, 6) for m in maps), strict=True):
        assert [(r.y_l0 // 16, r.x_l0 // 16) for r in own] == [(y, x) for y, x, _ in expected]
        assert [r.score for r in own] == pytest.approx([score for *_, score in expected], abs=1e-6)
        assert all(r.x_l0 + r.width_l0 <= store.meta.width_l0 for r in own)


def test_slides_share_the_gallery(made: Made):
    maps = waves(2, 40, 48)
    dark, bright = made(maps // 2, np.zeros((40, 48)), ("AAA",)), made(maps, np.zeros((40, 48)), ("AAA",))
    found = top_regions([("dark", dark), ("bright", bright)], per_prototype=5, per_slide=3)
    for own in found:
        assert [region.slide for region in own] == ["bright"] * 3 + ["dark"] * 2
        assert [r.score for r in own] == sorted((r.score for r in own), reverse=True)
    same = top_regions([("x", bright), ("y", bright)], per_prototype=4, per_slide=2)
    assert [region.slide for region in same[0]] == ["x", "y", "x", "y"]
    assert found == top_regions([("dark", dark), ("bright", bright)], per_prototype=5, per_slide=3)


def test_without_tissue_there_is_nothing_and_models_are_not_mixed(made: Made):
    maps = waves(2, 16, 24)
    store = made(maps, np.full((16, 24), 1), ("AAA",))
    assert top_regions([("a", store)], 3, 3) == [[], []]
    assert top_regions([], 3, 3) == []
    other = made(maps, np.zeros((16, 24)), ("AAA",), checkpoint_digest="sha256:2", checkpoint_name="second")
    with pytest.raises(ResultError, match=r"by model and .* by another model, second: ask for the results"):
        top_regions([("a", store), ("b", other)], 3, 3)
    with pytest.raises(ConfigError, match="per_slide 0 must be at least 1"):
        top_regions([("a", store)], 3, 0)


def test_what_an_edited_checkpoint_does_not_count_has_no_places(made: Made):
    maps = waves(3, 40, 48)
    store = made(maps, np.zeros((40, 48)), ("AAA",), edited=(((0,), (2,)),))
    found = top_regions([("a", store)], per_prototype=2, per_slide=2)
    assert [len(own) for own in found] == [2, 0, 2]
