"""Augmentation keeps what it must keep: symmetries permute pixels, jitter moves stain and leaves glass nearly white."""

import numpy as np
import pytest
import torch

from lpd.data.transforms import augment
from lpd.errors import ConfigError, ShapeError
from lpd.recipe.config import AugmentConfig

OFF = AugmentConfig(symmetries=False, stain=0, brightness=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_tiles(count: int, px: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, px, px, 3), generator=generator(7)).to(torch.uint8)


def test_all_off_changes_nothing():
    tiles = random_tiles(3)
    torch.testing.assert_close(augment(tiles, OFF, generator()), tiles)


def test_symmetries_reach_all_eight_and_only_those():
    tile = random_tiles(1)
    many = augment(tile.expand(200, -1, -1, -1), AugmentConfig(stain=0, brightness=0), generator())
    seen = {tuple(image.flatten().tolist()) for image in many}
    plain = tile[0].numpy()
    expected = set()
    for turns in range(4):
        turned = np.rot90(plain, turns)
        expected |= {tuple(turned.flatten().tolist()), tuple(turned[:, ::-1].flatten().tolist())}
    assert seen == expected


def test_equal_seeds_give_equal_batches_and_tiles_differ():
    tiles = random_tiles(1).expand(4, -1, -1, -1)
    first, again = (augment(tiles, AugmentConfig(), generator(3)) for _ in range(2))
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, augment(tiles, AugmentConfig(), generator(4)))
    jitter_only = augment(tiles, AugmentConfig(symmetries=False), generator(3))
    assert not torch.equal(jitter_only[0], jitter_only[1])


def test_stain_jitter_scales_haematoxylin_in_optical_density():
    haematoxylin = np.array([0.650, 0.704, 0.286])
    colour = torch.tensor(255 * np.exp(-haematoxylin)).round().to(torch.uint8).expand(50, 4, 4, 3)
    out = augment(colour, AugmentConfig(symmetries=False, stain=0.3, brightness=0), generator())
    gains = -np.log(out[:, 0, 0].numpy() / 255) / haematoxylin
    np.testing.assert_allclose(gains.std(axis=1), 0, atol=0.015)  # one gain for the whole stain, whatever the channel
    assert 0.69 < gains.mean(axis=1).min() < 0.8
    assert 1.2 < gains.mean(axis=1).max() < 1.31


def test_brightness_moves_all_channels_alike():
    grey = torch.full((20, 2, 2, 3), 120, dtype=torch.uint8)
    out = augment(grey, AugmentConfig(symmetries=False, stain=0, brightness=0.2), generator()).float()
    assert (out.amax(3) - out.amin(3)).max() <= 1
    assert out.min() < 110
    assert out.max() > 130
    assert out.min() >= 120 * np.exp(-0.2) - 1


def test_glass_stays_white_under_stain_jitter():
    white = torch.full((4, 4, 4, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(augment(white, AugmentConfig(brightness=0), generator()), white)


def test_other_layouts_are_refused():
    with pytest.raises(ShapeError):
        augment(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), AugmentConfig(), generator())


def test_wild_settings_are_refused():
    with pytest.raises(ConfigError):
        AugmentConfig(stain=1.5)
