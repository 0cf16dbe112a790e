"""Towers: frozen for good, what they embed against loops, and every way to be refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lpd.errors import ConfigError, ShapeError
from lpd.model import towers
from lpd.model.towers import Tower, averaged_tower, own_tower


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# The network's own encoder, as loaded and averaged


def test_own_tower_is_the_mean_of_the_deepest_map(tiny_network):
    tower = own_tower(tiny_network.encoder, pretrained=True)
    images = uniform(3, 3, 64, 64)
    found = tower.embed(images)
    with torch.no_grad():
        deepest = tiny_network.encoder(images)[-1]
    expected = torch.stack([torch.stack([plane.sum() / plane.numel() for plane in image]) for image in deepest])
    torch.testing.assert_close(found, expected)
    assert found.shape == (3, tower.dim)


@pytest.mark.parametrize("make", [lambda e: own_tower(e, pretrained=True), averaged_tower])
def test_training_the_network_leaves_the_tower_alone(tiny_network, make):
    tower = make(tiny_network.encoder.train())
    images = uniform(2, 3, 64, 64)
    before = tower.embed(images)
    assert all(p.requires_grad for p in tiny_network.encoder.parameters())
    with torch.no_grad():
        for parameter in tiny_network.parameters():
            parameter.add_(1)
    assert torch.equal(tower.embed(images), before)


def test_a_tower_is_frozen_and_passes_no_gradient(tiny_network):
    tower = own_tower(tiny_network.encoder.train(), pretrained=True)
    assert not any(p.requires_grad for p in tower._network.parameters())
    assert not any(m.training for m in tower._network.modules())
    images = uniform(2, 3, 64, 64).requires_grad_()
    masks, index = torch.ones(2, 4, 4), torch.arange(2)
    assert not tower.embed(images).requires_grad
    assert not tower.embed_masked(images, masks, index).requires_grad


def test_who_holds_a_tower_neither_saves_nor_trains_it(tiny_network):
    holder = nn.Module()
    holder.network, holder.tower = tiny_network, own_tower(tiny_network.encoder, pretrained=True)
    assert holder.state_dict().keys() == {f"network.{name}" for name in tiny_network.state_dict()}
    assert len(list(holder.parameters())) == len(list(tiny_network.parameters()))
    holder.train()
    assert not any(m.training for m in holder.tower._network.modules())


def test_own_tower_of_an_untrained_encoder_is_refused(tiny_network):
    with pytest.raises(ConfigError, match="no trained weights: name a weights file"):
        own_tower(tiny_network.encoder, pretrained=False)


def test_averaged_tower_follows_the_average(tiny_network):
    encoder = tiny_network.encoder
    tower = averaged_tower(encoder)
    images = uniform(2, 3, 64, 64)
    before = tower.embed(images)
    with torch.no_grad():
        for parameter in tiny_network.parameters():
            parameter.add_(0.1 * uniform(*parameter.shape))
        expected = encoder(images)[-1].mean((2, 3))
    values = {name: p.detach().clone() for name, p in tiny_network.named_parameters()}
    tower.refresh(values)
    torch.testing.assert_close(tower.embed(images), expected)
    assert not torch.allclose(before, expected)
    for value in values.values():  # the average goes on; the tower holds a copy
        value.zero_()
    torch.testing.assert_close(tower.embed(images), expected)


def test_weights_that_are_not_averaged_stay(tiny_network):
    tower = averaged_tower(tiny_network.encoder)
    kept = "encoder.body.patch_embed.proj.weight"  # frozen parameters have no average
    values = {n: p.detach() + 1 for n, p in tiny_network.named_parameters() if n != kept}
    tower.refresh(values)
    state = tower._network.state_dict()
    assert torch.equal(state[kept.removeprefix("encoder.")], tiny_network.state_dict()[kept])
    bias = "body.patch_embed.proj.bias"
    assert torch.equal(state[bias], tiny_network.encoder.state_dict()[bias] + 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder.body.elsewhere": torch.zeros(1)}, "body.elsewhere"),
        ({"encoder.body.patch_embed.proj.bias": torch.zeros(3)}, "body.patch_embed.proj.bias"),
        ({"prototypes": torch.zeros(12, 16)}, "any name"),
    ],
)
def test_an_average_of_something_else_is_refused(tiny_network, values, message):
    tower = averaged_tower(tiny_network.encoder)
    with pytest.raises(ShapeError, match=f"do not fit the tower's encoder at {message}"):
        tower.refresh(values)


# Masked averages of a map


class PixelTower(Tower):
    """Its map is the image itself; counts the images that it was shown."""

    dim = 3

    def __init__(self) -> None:
        super().__init__(nn.Identity(), "pixels")
        self.shown = self.most_at_once = 0

    def _embed(self, images: Tensor) -> Tensor:
        return self._maps(images).mean((2, 3))

    def _maps(self, images: Tensor) -> Tensor:
        self.shown += len(images)
        self.most_at_once = max(self.most_at_once, len(images))
        return images

    def _finish(self, pooled: Tensor) -> Tensor:
        return pooled


def test_masked_averages_pixel_by_pixel():
    images, index = uniform(3, 3, 4, 6), torch.tensor([2, 0, 2, 1, 0])
    masks = uniform(5, 4, 6, seed=1) < 0.5
    found = PixelTower().embed_masked(images, masks, index)
    for n, b in enumerate(index.tolist()):
        inside = [images[b, :, y, x] for y in range(4) for x in range(6) if masks[n, y, x]]
        torch.testing.assert_close(found[n], sum(inside) / len(inside))


def test_a_map_pixel_counts_by_its_share_in_a_finer_mask():
    images = torch.zeros(1, 3, 1, 2)
    images[0, :, 0, 0], images[0, :, 0, 1] = 1.0, 5.0
    mask = torch.tensor([[[1, 0, 1, 1], [0, 0, 1, 0]]]).bool()  # a quarter of the left pixel, three of the right
    found = PixelTower().embed_masked(images, mask, torch.tensor([0]))
    assert found.tolist() == [[(1 + 3 * 5) / 4] * 3]


def test_a_coarser_mask_covers_whole_pixels():
    images = uniform(1, 3, 4, 4)
    found = PixelTower().embed_masked(images, torch.tensor([[[True, False], [False, False]]]), torch.tensor([0]))
    torch.testing.assert_close(found[0], images[0, :, :2, :2].mean((1, 2)))


def test_empty_masks_and_no_masks():
    tower, images = PixelTower(), uniform(2, 3, 4, 4)
    empty = tower.embed_masked(images, torch.zeros(1, 4, 4, dtype=torch.bool), torch.tensor([1]))
    assert empty.tolist() == [[0, 0, 0]]
    none = torch.zeros(0, dtype=torch.long)
    assert tower.embed_masked(images, torch.zeros(0, 4, 4), none).shape == (0, 3)
    assert tower.embed(images[:0]).shape == (0, 3)


def test_an_image_is_shown_once_however_many_masks_it_has():
    tower = PixelTower()
    tower.embed_masked(uniform(2, 3, 4, 4), torch.ones(50, 4, 4), torch.arange(50) % 2)
    assert tower.shown == 2


def test_many_images_are_embedded_a_part_at_a_time(monkeypatch):
    images, masks, index = uniform(5, 3, 4, 4), torch.ones(5, 4, 4), torch.arange(5)
    whole, masked = PixelTower().embed(images), PixelTower().embed_masked(images, masks, index)
    monkeypatch.setitem(towers._IMAGES_AT_ONCE, "cpu", 2)
    tower = PixelTower()
    assert torch.equal(tower.embed(images), whole)
    assert tower.most_at_once == 2
    assert torch.equal(tower.embed_masked(images, masks, index), masked)
    assert tower.most_at_once == 2


def test_averages_stay_in_float32_under_autocast():
    images, masks, index = uniform(2, 3, 16, 16), uniform(2, 16, 16), torch.arange(2)
    expected = PixelTower().embed_masked(images, masks, index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = PixelTower().embed_masked(images, masks, index)
        half = PixelTower().embed_masked(images.bfloat16(), masks, index)
    assert torch.equal(found, expected)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize(("masks", "index"), [((2, 4, 4), (3,)), ((2, 1, 4, 4), (2,)), ((4, 4), (4,))])
def test_masks_without_their_images_are_refused(masks, index):
    with pytest.raises(ShapeError, match=r"are not \(N, h, w\) and \(N,\)"):
        PixelTower().embed_masked(uniform(2, 3, 4, 4), torch.ones(masks), torch.zeros(index, dtype=torch.long))
