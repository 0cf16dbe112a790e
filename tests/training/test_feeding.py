"""Feeding gives every step its own varied tiles, whoever reads them and wherever the training begins."""

from __future__ import annotations

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.data.transforms import augment
from lpd.errors import DatasetError
from lpd.recipe.config import AugmentConfig
from lpd.training.distribution import part_of
from lpd.training.feeding import feeding
from lpd.training.schedule import batches, step_seed

CONFIG = AugmentConfig()


def whole(count: int):
    return part_of(count, 0, 1)


def test_each_step_gets_what_its_number_says(few_tiles):
    tiles = TileSet.open(few_tiles, "train")
    order = list(batches(len(tiles), 2, 4, seed=3))
    with feeding(tiles, order, 0, CONFIG, 3, whole) as fed:
        given = list(fed)
    assert len(given) == len(order) == 12  # more than are read ahead
    for step, indices in enumerate(order):
        generator = torch.Generator().manual_seed(step_seed(3, step))
        assert torch.equal(given[step], augment(torch.from_numpy(tiles.images(indices)), CONFIG, generator))
    with feeding(tiles, order, 5, CONFIG, 3, whole) as fed:
        assert all(torch.equal(one, other) for one, other in zip(fed, given[5:], strict=True))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_parts_of_a_batch_are_varied_as_in_the_whole(few_tiles, world):
    tiles = TileSet.open(few_tiles, "train")
    order = list(batches(len(tiles), 4, 2, seed=3))
    with feeding(tiles, order, 0, CONFIG, 3, whole) as fed:
        expected = list(fed)
    for rank in range(world):
        with feeding(tiles, order, 0, CONFIG, 3, lambda count, rank=rank: part_of(count, rank, world)) as fed:
            for given, batch in zip(fed, expected, strict=True):
                assert torch.equal(given, batch[part_of(len(batch), rank, world).tiles])


def test_a_device_varies_its_tiles_itself(few_tiles):
    tiles = TileSet.open(few_tiles, "train")
    order = list(batches(len(tiles), 2, 1, seed=3))
    with feeding(tiles, order, 0, CONFIG, 3, whole, "meta") as fed:
        assert {(image.device.type, *image.shape) for image in fed} == {("meta", 2, 128, 128, 3)}


def test_a_tile_that_cannot_be_read_is_named_at_its_step_and_nobody_hangs(few_tiles, monkeypatch):
    tiles = TileSet.open(few_tiles, "train")
    order = [[0, 1]] * 7 + [[2, 3]] + [[0, 1]] * 4
    read = tiles.images

    def broken(indices):
        if list(indices) == order[7]:
            raise DatasetError("t.png is damaged")
        return read(indices)

    monkeypatch.setattr(tiles, "images", broken)
    with feeding(tiles, order, 0, CONFIG, 3, whole) as fed:
        for _ in range(7):
            next(fed)
        with pytest.raises(DatasetError, match=r"t\.png"):
            next(fed)


def test_leaving_early_ends_the_threads(few_tiles):
    tiles = TileSet.open(few_tiles, "train")
    with feeding(tiles, [[0, 1]] * 1000, 0, CONFIG, 3, whole) as fed:
        next(fed)
