"""Towers: frozen for good, what they embed against loops, timm and transformers, and every way to be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lpd.config import InputSpec
from lpd.errors import CheckpointError, ConfigError, ShapeError
from lpd.model import towers
from lpd.model.towers import Tower, TowerView, averaged_tower, own_tower, timm_tower

SPEC = InputSpec(mpp=0.5, tile_px=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
VIEW = TowerView(mean=(0.6, 0.5, 0.7), std=(0.25, 0.2, 0.3), image_px=64)
SMALL_SWIN = (("depths", (1, 2, 1, 1)), ("embed_dim", 24), ("num_heads", (1, 2, 4, 8)))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(N, 3, H, W) pixels in 0–1, channel by channel."""
    return torch.stack([(pixels[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.05)  # variances stay positive
    return network.eval()


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


# Networks of timm


TIMM = [
    ("mobilenetv2_100", (), True),
    ("mobilenetv3_small_050", (), True),  # layers between pooling and embedding
    ("resnet10t", (), True),
    ("convnext_atto", (), True),  # a norm after pooling
    ("swin_tiny_patch4_window7_224", (*SMALL_SWIN, ("img_size", 64)), True),
    ("vit_tiny_patch16_224", (("depth", 2), ("img_size", 64)), False),  # class token
    ("vit_tiny_patch16_224", (("depth", 2), ("img_size", 64), ("global_pool", "avg")), True),
    ("vit_medium_patch16_reg4_gap_256", (("depth", 2), ("img_size", 64)), True),  # four tokens more
    ("deit3_small_patch16_224", (("depth", 2), ("img_size", 64)), False),
]


@pytest.mark.parametrize(("name", "options", "averages"), TIMM)
def test_any_timm_network_embeds_as_timm_says(tmp_path, name, options, averages):
    headed = randomised(timm.create_model(name, **dict(options)))
    save_file({n: v.contiguous() for n, v in headed.state_dict().items()}, tmp_path / "weights.safetensors")
    tower = timm_tower(name, tmp_path / "weights.safetensors", SPEC, view=VIEW, options=options)
    pixels = uniform(2, 3, 64, 64)
    images = normalised(pixels, SPEC.mean, SPEC.std)
    with torch.no_grad():
        seen = normalised(pixels, VIEW.mean, VIEW.std)
        expected = headed.forward_head(headed.forward_features(seen), pre_logits=True)
    found = tower.embed(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)  # renormalising rounds
    assert found.shape == (2, tower.dim)
    assert "weights.safetensors" in tower.description
    masked = tower.embed_masked(images, torch.ones(2, 8, 8), torch.arange(2))
    assert masked.shape == found.shape
    assert torch.allclose(masked, found, rtol=1e-3, atol=1e-4) == averages


@pytest.mark.parametrize(("name", "options"), [TIMM[4][:2], TIMM[5][:2], TIMM[0][:2]])
def test_parts_of_a_timm_map_lie_where_the_mask_says(tmp_path, name, options):
    """A picture of two constant halves: each half's part resembles the picture that is all like it."""
    tower = timm_tower(name, _weights(tmp_path, name, options), SPEC, view=VIEW, options=options)
    halves, dark, bright = torch.full((3, 1, 3, 64, 64), -1.0)
    halves = halves.clone()
    bright = bright + 2.5
    halves[..., 32:] = 1.5
    left = torch.zeros(1, 8, 8)
    left[..., :4] = 1
    parts = tower.embed_masked(halves, torch.cat([left, 1 - left]), torch.zeros(2, dtype=torch.long))
    whole = tower.embed_masked(torch.cat([dark, bright]), torch.ones(2, 8, 8), torch.arange(2))
    distances = torch.cdist(parts, whole)
    assert distances[0, 0] < distances[0, 1]
    assert distances[1, 1] < distances[1, 0]


def _weights(folder: Path, name: str, options: tuple[tuple[str, Any], ...]) -> Path:
    torch.manual_seed(0)
    network = timm.create_model(name, **dict(options))
    save_file({n: v.contiguous() for n, v in network.state_dict().items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


def test_the_view_is_timms_own_unless_given(tmp_path):
    name, options = "vit_small_patch16_18x2_224", (("depth", 1),)
    tower = timm_tower(name, _weights(tmp_path, name, options), SPEC, options=options)
    record = timm.create_model(name, depth=1).pretrained_cfg
    assert tower._view == TowerView(record["mean"], record["std"], 224)
    sized = timm_tower(name, None, SPEC, options=(*options, ("img_size", 96)), random=True)
    assert sized._view.image_px == 96
    partly = timm_tower(
        name,
        tmp_path / "w.safetensors",
        SPEC,
        options=options,
        view=TowerView((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)),
    )
    assert partly._view == TowerView((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), 224)


def test_images_are_brought_to_the_towers_size(tmp_path):
    tower = timm_tower("resnet10t", _weights(tmp_path, "resnet10t", ()), SPEC, view=VIEW)
    big = uniform(1, 3, 160, 160)
    shrunk = [Image.fromarray(plane.numpy()).resize((64, 64), Image.Resampling.BILINEAR) for plane in big[0]]
    expected = tower.embed(torch.from_numpy(np.stack(shrunk))[None])
    torch.testing.assert_close(tower.embed(big), expected, rtol=1e-4, atol=1e-5)


def test_random_weights_only_when_asked_for():
    with pytest.raises(ConfigError, match="'resnet10t' has no weights file, and random weights know nothing"):
        timm_tower("resnet10t", None, SPEC)
    tower = timm_tower("resnet10t", None, SPEC, view=VIEW, random=True)
    assert tower.description == "tower resnet10t with random weights"
    assert tower.embed(uniform(2, 3, 64, 64)).shape == (2, tower.dim)


@pytest.mark.parametrize(
    ("name", "options", "view", "message"),
    [
        ("resnet10", (), VIEW, "'resnet10' is unknown"),
        ("hf-hub:timm/resnet10t.c3_in1k", (), VIEW, "is unknown"),
        ("local-dir:/models/resnet10t", (), VIEW, "is unknown"),
        ("resnet10t", (("pretrained", True),), VIEW, "'pretrained' is not for settings"),
        ("resnet10t", (("colour", 1),), VIEW, "cannot be built with the options"),
        ("vit_tiny_patch16_224", (("depth", 1),), VIEW, "cannot embed images of 64 px"),
        ("resnet10t", (("global_pool", ""),), VIEW, "no single vector"),
    ],
)
def test_a_network_that_is_no_tower_is_refused(name, options, view, message):
    with pytest.raises(ConfigError, match=message):
        timm_tower(name, None, SPEC, view=view, options=options, random=True)


def test_a_tower_view_needs_a_spread():
    with pytest.raises(ConfigError, match="must be above 0"):
        TowerView((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))


def test_a_file_of_another_network_is_refused(tmp_path):
    path = _weights(tmp_path, "resnet10t", ())
    with pytest.raises(CheckpointError, match="weights are missing"):
        timm_tower("swin_tiny_patch4_window7_224", path, SPEC, options=SMALL_SWIN)


# Hugging Face's Swin, and MedCLIP around it


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dict[str, Tensor]]:
    """A small SwinModel, and its tensors by their published names."""
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    config = transformers.SwinConfig(depths=[1, 2, 1, 1], embed_dim=24, num_heads=[1, 2, 4, 8])
    model = randomised(transformers.SwinModel(config))
    folder = tmp_path_factory.mktemp("swin")
    model.save_pretrained(folder)
    return model, load_file(folder / "model.safetensors")


def swin_tower(path: Path) -> Tower:
    return timm_tower("swin_tiny_patch4_window7_224", path, SPEC, options=SMALL_SWIN)


def pooled_by_transformers(model: nn.Module, pixels: Tensor) -> Tensor:
    view = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)).pretrained_cfg
    with torch.no_grad():
        return model(normalised(pixels, view["mean"], view["std"])).pooler_output


@pytest.mark.parametrize("wrapper", ["", "swin."])
def test_hugging_face_swin_embeds_as_transformers(tmp_path, swin, wrapper):
    model, tensors = swin
    save_file({wrapper + name: value for name, value in tensors.items()}, tmp_path / "swin.safetensors")
    tower = swin_tower(tmp_path / "swin.safetensors")
    pixels = uniform(2, 3, 224, 224)
    found = tower.embed(normalised(pixels, SPEC.mean, SPEC.std))
    expected = pooled_by_transformers(model, pixels)
    assert (found - expected).abs().max() <= 1e-5
    assert expected.std() > 0.1
    assert tower.dim == 192
    assert "Hugging Face Swin names" in tower.description


@pytest.mark.parametrize("wrapper", ["vision_model.", ""])
def test_medclip_projects_what_swin_pools(tmp_path, swin, wrapper):
    """The file of the whole MedCLIP holds a text model too, whose projection has the same name and shape."""
    model, tensors = swin
    projection = uniform(512, 192) - 0.5
    whole = {}
    if wrapper:
        whole |= {"text_model.projection_head.weight": uniform(512, 192, seed=1), "logit_scale": torch.ones(())}
        whole |= {"text_model.model.embeddings.position_ids": torch.arange(5)[None]}
    whole |= {f"{wrapper}model.{name}": value for name, value in tensors.items()}
    whole[f"{wrapper}projection_head.weight"] = projection
    whole[f"{wrapper}model.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = torch.zeros(49, 49)
    torch.save(whole, tmp_path / "pytorch_model.bin")
    tower = swin_tower(tmp_path / "pytorch_model.bin")
    pixels = uniform(2, 3, 224, 224)
    found = tower.embed(normalised(pixels, SPEC.mean, SPEC.std))
    expected = pooled_by_transformers(model, pixels) @ projection.T
    assert tower.dim == 512
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)
    masked = tower.embed_masked(normalised(pixels, SPEC.mean, SPEC.std), torch.ones(2, 7, 7), torch.arange(2))
    torch.testing.assert_close(masked, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder.layers.1.blocks.1.layernorm_after.weight", None, "missing, first layers.1.blocks.1.norm2.weight"),
        ("encoder.layers.0.blocks.0.attention.self.value.weight", None, r"qkv.weight is \(48, 24\)"),
        ("encoder.layers.9.blocks.0.layernorm_after.weight", torch.zeros(3), "no place for"),
        ("layernorm.weight", torch.full((192,), torch.nan), "not finite"),
        ("projection_head.weight", torch.zeros(512, 7), r"projects by \(512, 7\) numbers"),
        ("projection_head.weight", torch.full((512, 192), torch.inf), "finite"),
    ],
)
def test_a_swin_file_that_does_not_fit_is_refused(tmp_path, swin, name, value, message):
    tensors = dict(swin[1])
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    save_file(tensors, tmp_path / "swin.safetensors")
    with pytest.raises(CheckpointError, match=message):
        swin_tower(tmp_path / "swin.safetensors")
