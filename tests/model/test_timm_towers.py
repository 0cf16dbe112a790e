"""Towers from timm: what they embed against timm and transformers, and every way to be refused."""

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
from lpd.errors import CheckpointError, ConfigError
from lpd.model.towers import Tower, TowerView, timm_tower

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


def test_a_size_may_be_given_as_a_pair():
    options = (("depth", 2), ("img_size", (64, 64)))
    assert timm_tower("vit_tiny_patch16_224", None, SPEC, options=options, random=True).dim == 192
    with pytest.raises(ConfigError, match=r"\(64, 96\) px: they must be square"):
        timm_tower("vit_tiny_patch16_224", None, SPEC, options=(("depth", 2), ("img_size", (64, 96))), random=True)


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
