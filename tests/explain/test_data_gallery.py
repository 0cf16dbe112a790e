"""Gallery of a data set: places laid out by hand, and the choice against sorting everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.errors import ConfigError
from lpd.explain.data_gallery import top_places
from lpd.explain.figures import prototype_figures

from .test_figures import BLUE, COLOURS, DARK, GREEN, PX, RED, SPEC, Painted, new_network, write_tiles

HALF = PX // 2


def spotted(colour: tuple[int, int, int], x: int, y: int) -> np.ndarray:
    """A dark tile with a square of a colour, half as wide as the tile."""
    image = np.full((PX, PX, 3), DARK, np.uint8)
    image[y : y + HALF, x : x + HALF] = colour
    return image


def test_places_by_hand(tmp_path: Path):
    """Dark answers √⅓ to each pure colour: the squares are what the prototypes answer most to."""
    mask = np.zeros((PX, PX), np.uint8)
    images = [spotted(RED, 8, 24), spotted(GREEN, 32, 0), spotted(RED, 16, 16), np.full((PX, PX, 3), DARK, np.uint8)]
    tiles = write_tiles(tmp_path, images, [mask] * 4)
    found = top_places(Painted([RED, GREEN] * 3), tiles, COLOURS, 3, 1)
    first = found.places[0]
    assert [(p.number, p.tile, p.x_px, p.y_px, p.width_px, p.height_px) for p in first[:2]] == [
        (0, "00.png", 8, 24, HALF, HALF),
        (2, "02.png", 16, 16, HALF, HALF),
    ]
    assert [p.score for p in first[:2]] == pytest.approx([1, 1])
    assert first[2].score == pytest.approx(3**-0.5)  # all dark; the green square's tile has dark places just as good
    assert first[2].number == 1
    assert (found.places[1][0].number, found.places[1][0].x_px, found.places[1][0].y_px) == (1, 32, 0)
    assert found.places[2] == first  # the second class has the same two colours
    assert found.figures == prototype_figures(Painted([RED, GREEN] * 3), tiles, COLOURS)


def test_the_choice_is_that_of_all_places_sorted(tmp_path: Path):
    """Ten tiles of four cases; the best place of each tile by a loop, then greedily, case by case."""
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    images = [block.repeat(8, 0).repeat(8, 1) for block in blocks]
    tiles = write_tiles(tmp_path, images, [np.zeros((PX, PX), np.uint8)] * 10)
    for kind in ("img", "mask"):
        for i, path in enumerate(sorted((tmp_path / "valid" / kind).iterdir())):
            path.rename(path.with_name(f"case{i % 4}_x{i}_y0.png"))
    tiles = type(tiles).open(tmp_path, "valid")
    network = Painted([RED, GREEN, BLUE])
    maps = network(torch.from_numpy(tiles.images(range(10))).permute(0, 3, 1, 2).float()).prototype_cosines[3].numpy()
    found = top_places(network, tiles, COLOURS, 5, 2)
    for m, own in enumerate(found.places):
        best = [max(maps[i, m, y : y + 4, x : x + 4].mean() for y in range(5) for x in range(5)) for i in range(10)]
        chosen: list[int] = []
        for i in sorted(range(10), key=lambda i: -best[i]):
            cases = [tiles.files[j].image.name[:5] for j in chosen]
            if cases.count(tiles.files[i].image.name[:5]) < 2 and len(chosen) < 5:
                chosen.append(i)
        assert [place.number for place in own] == chosen
        assert [place.score for place in own] == pytest.approx([best[i] for i in chosen], abs=1e-5)


def test_dead_ones_and_near_duplicates_are_told(tmp_path: Path):
    """The first two colours are one but for their brightness, and blue is nowhere: r = 1, usage 0."""
    rng = np.random.default_rng(2)
    image = np.full((PX, PX, 3), 9, np.uint8)
    image[..., :2] = rng.integers(60, 250, (8, 8, 2), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    tiles = write_tiles(tmp_path, [image], [np.zeros((PX, PX), np.uint8)])
    own = top_places(Painted([RED, (200, 0, 0), BLUE] * 3), tiles, COLOURS).figures["classes"]["AAA"]
    assert own["dead"] == [1, 2]
    assert own["near_duplicates"] == [(0, 1, pytest.approx(1))]
    assert own["usage"] == [1, 0, 0]


def test_a_split_without_masks_has_places_and_no_figures(tmp_path: Path):
    tiles = write_tiles(tmp_path, [spotted(RED, 0, 0)], [np.zeros((PX, PX), np.uint8)])
    (tmp_path / "train").mkdir()
    (tmp_path / "valid" / "img" / "00.png").rename(tmp_path / "train" / "a[100].png")
    found = top_places(new_network(), type(tiles).open(tmp_path, "train"), SPEC)
    assert found.figures is None
    assert [len(own) for own in found.places] == [1] * 9
    with pytest.raises(ConfigError, match="per_case 0 must be at least 1"):
        top_places(new_network(), tiles, SPEC, per_case=0)
