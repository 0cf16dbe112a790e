"""Augmentation keeps what it must keep: symmetries permute pixels, jitter moves stain and leaves glass nearly white."""

import numpy as np
import pytest
import torch

from lpd.config import InputSpec
from lpd.data.transforms import AugmentConfig, augment, normalise, to_tensor
from lpd.errors import ConfigError, ShapeError

OFF = AugmentConfig(symmetries=False, stain=0, brightness=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_tiles(count: int, px: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, px, px), generator=generator(7)).to(torch.uint8)


def test_all_off_is_the_plain_scaling():
    tiles = random_tiles(3)
    torch.testing.assert_close(augment(tiles, OFF, generator()), tiles.float() / 255)


def test_symmetries_reach_all_eight_and_only_those():
    tile = random_tiles(1)
    many = augment(tile.expand(200, -1, -1, -1), AugmentConfig(stain=0, brightness=0), generator())
    seen = {tuple((image * 255).round().int().flatten().tolist()) for image in many}
    plain = tile[0].numpy()
    expected = set()
    for turns in range(4):
        turned = np.rot90(plain, turns, axes=(1, 2))
        expected |= {tuple(turned.flatten().tolist()), tuple(turned[:, :, ::-1].flatten().tolist())}
    assert seen == expected


def test_equal_seeds_give_equal_batches_and_tiles_differ():
    tiles = random_tiles(1).expand(4, -1, -1, -1)
    first, again = (augment(tiles, AugmentConfig(), generator(3)) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, augment(tiles, AugmentConfig(), generator(4)))
    jitter_only = augment(tiles, AugmentConfig(symmetries=False), generator(3))
    assert not torch.allclose(jitter_only[0], jitter_only[1])


def test_stain_jitter_scales_haematoxylin_in_optical_density():
    haematoxylin = np.array([0.650, 0.704, 0.286])
    colour = torch.tensor(255 * np.exp(-haematoxylin)).round().to(torch.uint8).view(1, 3, 1, 1).expand(50, 3, 4, 4)
    out = augment(colour, AugmentConfig(symmetries=False, stain=0.3, brightness=0), generator())
    gains = (-torch.log(out[:, :, 0, 0]) / torch.tensor(haematoxylin, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(gains.std(axis=1), 0, atol=0.01)  # one gain for the whole stain, whatever the channel
    assert 0.69 < gains.min() < 0.8
    assert 1.2 < gains.max() < 1.31


def test_glass_stays_white_under_stain_jitter():
    white = torch.full((4, 3, 4, 4), 255, dtype=torch.uint8)
    torch.testing.assert_close(augment(white, AugmentConfig(brightness=0), generator()), torch.ones(4, 3, 4, 4))


def test_normalise_treats_bytes_and_fractions_alike():
    spec = InputSpec(mpp=1.0, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.1))
    tiles = random_tiles(2)
    torch.testing.assert_close(normalise(tiles, spec), normalise(tiles.float() / 255, spec))
    assert normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), spec).flatten().tolist() == pytest.approx(
        [1, 2.4, 7]
    )


def test_to_tensor_keeps_channel_order_and_refuses_other_layouts():
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert to_tensor(red)[0, 0].min() == 255
    with pytest.raises(ShapeError):
        to_tensor(np.zeros((1, 3, 4, 4), np.uint8))


def test_wild_settings_are_refused():
    with pytest.raises(ConfigError):
        AugmentConfig(stain=1.5)
