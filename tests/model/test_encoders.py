"""Encoders: maps, channels and strides of every family, refusals, batch-norm freezing."""

from __future__ import annotations

import pytest
import timm
import torch

from lpd.errors import ConfigError
from lpd.model.encoders import batch_norms, build_encoder, freeze_folded_batch_norm

SHALLOW_VIT = (("depth", 4),)


@pytest.mark.parametrize(
    ("name", "options", "strides"),
    [
        ("mit_b0", (), (4, 8, 16, 16)),
        ("mobilenetv2_100", (("pad_type", "same"),), (4, 8, 16, 16)),
        ("resnet18", (), (4, 8, 16, 16)),
        ("convnext_atto", (), (4, 8, 16, 16)),
        ("swin_tiny_patch4_window7_224", (("depths", (1, 1, 2, 1)),), (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", SHALLOW_VIT, (16, 16, 16, 16)),
        ("resnet18.a1_in1k", (), (4, 8, 16, 16)),
    ],
)
def test_any_encoder_gives_four_maps_of_the_announced_shape(name, options, strides):
    encoder = build_encoder(name, options=options).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(2, 3, 96, 64))
    assert encoder.strides == strides
    assert [tuple(m.shape) for m in maps] == [
        (2, d, 96 // s, 64 // s) for d, s in zip(encoder.channels, strides, strict=True)
    ]
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.parametrize(("last_stride", "deepest"), [(0, 32), (1, 16), (2, 32)])
@pytest.mark.parametrize("name", ["mit_b0", "resnet18"])
def test_last_stride_moves_only_the_deepest_map(name, last_stride, deepest):
    encoder = build_encoder(name, last_stride=last_stride).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 3, 64, 64))
    assert [64 // m.shape[2] for m in maps] == [4, 8, 16, deepest] == list(encoder.strides)


def test_mit_b1_has_the_published_shape_at_224_px():
    encoder = build_encoder("mit_b1").eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 3, 224, 224))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 56, 56), (128, 28, 28), (320, 14, 14), (512, 14, 14)]
    assert sum(p.numel() for p in encoder.parameters()) == 13_151_424  # MiT-B1 without its classification head


@pytest.mark.parametrize("name", ["mit_b0", "resnet18"])
def test_fewer_maps_are_the_deepest_ones(name):
    assert build_encoder(name, maps=2).channels == build_encoder(name).channels[-2:]


def test_features_are_the_networks_own():
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", last_stride=0).eval()
    whole = timm.create_model("resnet18").eval()
    whole.load_state_dict(encoder.body.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(image)[-1], whole.forward_features(image))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mit_b9", {}, "did you mean mit_b"),
        ("resnet19", {}, "did you mean resnet18"),
        ("hf-hub:someone/model", {}, "unknown"),
        ("resnet18", {"options": (("no_such_option", 1),)}, "no_such_option"),
        ("mit_b0", {"options": (("no_such_option", 1),)}, "no_such_option"),
        ("resnet18", {"options": (("pretrained", True),)}, "'pretrained' is not for settings"),
        ("resnet18", {"options": (("checkpoint_path", "weights.pth"),)}, "'checkpoint_path' is not for settings"),
        ("resnet18", {"options": (("in_chans", 4),)}, "'in_chans' is not for settings"),
        ("mit_b0", {"options": (("in_chans", 4),)}, "'in_chans' is not for settings"),
        ("resnet18", {"options": (1,)}, "pairs"),
        ("mit_b0", {"options": (("num_heads", (0, 1, 1, 1)),)}, "cannot be built"),
        ("mit_b0", {"options": (("layer_norm_eps", "tiny"),)}, "cannot be built .*'tiny'.*correct or omit them"),
        ("mit_b0", {"options": (("depths", ("a",)),)}, r"\(AssertionError\): correct"),
        ("mit_b0", {"options": (("embed_dims", ("a", 8, 8, 8)),)}, r"cannot be built [^\n]*correct or omit them$"),
        ("resnet18", {"options": (("block", "x"),)}, r"deepest maps [^\n]*choose another encoder$"),
        ("mit_b0", {"last_stride": 3}, "last_stride 3"),
        ("mit_b0", {"maps": 5}, "1 to 4 maps"),
        ("levit_128s", {}, "4 deepest maps"),
    ],
)
def test_refusals_name_the_cure(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_encoder(name, **arguments)


def test_three_stage_encoder_still_gives_its_three_maps():
    assert len(build_encoder("levit_128s", maps=3).channels) == 3


def test_frozen_batch_norm_stays_in_evaluation_mode():
    encoder = build_encoder("resnet18", maps=1)
    encoder.freeze_batch_norm()
    encoder.train()
    assert encoder.training
    assert not any(norm.training for norm in batch_norms(encoder))
    assert any(module.training for module in encoder.modules())


def test_only_folded_statistics_freeze():
    fresh = build_encoder("resnet18", maps=1)
    assert not freeze_folded_batch_norm(fresh)
    assert not freeze_folded_batch_norm(build_encoder("mit_b0"))

    folded = build_encoder("resnet18", maps=1)
    for norm in batch_norms(folded):
        torch.nn.init.constant_(norm.bias, 0.5)
    assert freeze_folded_batch_norm(folded)

    trained = build_encoder("resnet18", maps=1).train()
    trained(torch.rand(4, 3, 64, 64))
    for norm in batch_norms(trained):
        torch.nn.init.constant_(norm.bias, 0.5)
    assert not freeze_folded_batch_norm(trained)
