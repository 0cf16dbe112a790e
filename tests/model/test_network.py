"""LPDNet and its CAM arithmetic against loops written from the equations."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from lpd.config import ModelConfig
from lpd.errors import ConfigError, ShapeError
from lpd.model.cam import pool_prototype_cams, prototype_cosines
from lpd.model.network import LPDNet, check_tile_px, sees_any_size


def test_every_map_follows_its_equation(tiny_network, tiny_config):
    network = tiny_network.double()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        output = network(images)
        maps = network.encoder(images)
    network.requires_grad_(False)
    for scale in (1, 2, 3):
        features, (w1, _, w2) = maps[scale - 1], network.adapters[str(scale)]
        gain = network.gains[str(scale)].item()
        classes = torch.zeros(4, dtype=torch.float64)
        for m, prototype in enumerate(network.prototypes.detach()):
            adapted = w2.weight @ torch.relu(w1.weight @ prototype + w1.bias) + w2.bias
            pixel = features[1, :, 2, 3]
            cosine = float(pixel @ adapted / (pixel.norm() * adapted.norm()))
            assert output.prototype_cosines[scale][1, m, 2, 3].item() == pytest.approx(cosine, abs=1e-12)
            assert output.prototype_logits[scale][1, m, 2, 3].item() == pytest.approx(gain * cosine, abs=1e-10)
            classes[m // tiny_config.prototypes_per_class] += gain * cosine / tiny_config.prototypes_per_class
        torch.testing.assert_close(output.class_logits[scale][1, :, 2, 3], classes)
        torch.testing.assert_close(output.features[scale], features)
        torch.testing.assert_close(output.image_scores(scale)[0], output.class_logits[scale][0].flatten(1).mean(1))
    assert output.deepest == 3


def test_shapes_and_start_of_a_new_network(tiny_config):
    torch.manual_seed(0)
    network = LPDNet(dataclasses.replace(tiny_config, prototype_dim=512, prototypes_per_class=10))
    output = network(torch.rand(2, 3, 64, 64))
    assert {s: tuple(t.shape) for s, t in output.prototype_logits.items()} == {
        1: (2, 40, 8, 8),
        2: (2, 40, 4, 4),
        3: (2, 40, 4, 4),
    }
    assert tuple(output.class_logits[3].shape) == (2, 4, 4, 4)
    assert network.prototypes.std().item() == pytest.approx(0.1, rel=0.05)
    assert [g.item() for g in network.gains.values()] == pytest.approx([1 / 0.07] * 3)
    assert all(t.abs().max() <= 1 + 1e-6 for t in output.prototype_cosines.values())


@pytest.mark.parametrize("scales", [(3,), (0, 3), (0, 1, 2, 3)])
def test_any_choice_of_scales(tiny_config, scales):
    config = dataclasses.replace(tiny_config, scales=scales, scale_weights=(1.0,) * len(scales))
    output = LPDNet(config).eval()(torch.rand(1, 3, 64, 64))
    sides = {0: 16, 1: 8, 2: 4, 3: 4}
    assert {s: t.shape[2] for s, t in output.class_logits.items()} == {s: sides[s] for s in scales}


def test_one_class_and_one_prototype(tiny_config):
    network = LPDNet(dataclasses.replace(tiny_config, class_count=1, prototypes_per_class=1))
    output = network(torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(output.class_logits[3], output.prototype_logits[3])


@pytest.mark.parametrize("encoder", ["mobilenetv2_100", "resnet18"])
def test_other_encoders_fit_under_the_same_head(encoder):
    network = LPDNet(ModelConfig(encoder, class_count=2, prototype_dim=8)).eval()
    assert [network.adapters[str(s)][2].out_features for s in (1, 2, 3)] == list(network.encoder.channels)
    assert tuple(network(torch.rand(1, 3, 64, 64)).class_logits[3].shape) == (1, 2, 4, 4)


def test_cosines_are_float32_under_autocast(tiny_network):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny_network(images)
    assert output.prototype_cosines[3].dtype == torch.float32
    assert output.class_logits[3].dtype == torch.float32
    # Given the same (rounded) features, autocast changes nothing at all.
    expected = prototype_cosines(output.features[3].float(), tiny_network.adapted_prototypes()[3])
    torch.testing.assert_close(output.prototype_cosines[3], expected, rtol=0, atol=0)


def test_every_parameter_learns_and_has_one_role(tiny_network):
    tiny_network.train()
    output = tiny_network(torch.rand(2, 3, 64, 64))
    sum(t.square().mean() for t in output.class_logits.values()).backward()
    roles = [*tiny_network.encoder.parameters(), *tiny_network.head_parameters(), *tiny_network.prototype_parameters()]
    assert len({id(p) for p in roles}) == len(roles) == len(list(tiny_network.parameters()))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in roles)
    assert tiny_network.prototypes.grad.abs().amax(1).min() > 0


def test_a_blank_feature_map_gives_zero_and_finite_gradients():
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    cosines = prototype_cosines(features, torch.rand(3, 4))
    cosines.sum().backward()
    assert cosines.abs().max() == 0
    assert torch.isfinite(features.grad).all()


def test_cosine_gradients():
    torch.manual_seed(0)
    features = torch.randn(2, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    prototypes = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prototype_cosines, (features, prototypes))


def test_half_precision_features_do_not_overflow():
    features = torch.full((1, 2, 1, 1), 300.0, dtype=torch.float16)  # 300² is beyond half precision
    assert prototype_cosines(features, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(1)


def test_pooling_groups_neighbouring_channels():
    cams = torch.tensor([1.0, 3.0, 10.0, 30.0])[None, :, None, None]
    assert pool_prototype_cams(cams, 2).flatten().tolist() == [2.0, 20.0]
    with pytest.raises(ShapeError, match="groups of 3"):
        pool_prototype_cams(cams, 3)


def test_the_union_is_high_where_any_prototype_is():
    cams = torch.tensor([0.0, math.log(3), 40.0, -40.0, 5.0, 5.0])[None, :, None, None]
    # log of the mean of 1 and 3; half of a certainty; equal maps stay as they are.
    expected = [math.log(2), 40 - math.log(2), 5.0]
    assert pool_prototype_cams(cams, 2, "union").flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("merge", ["mean", "union"])
def test_classes_are_merged_as_the_config_says(merge):
    config = ModelConfig("test_convnext", class_count=2, prototypes_per_class=3, prototype_dim=16, merge=merge)
    output = LPDNet(config).eval()(torch.rand(1, 3, 64, 64))
    for scale, logits in output.prototype_logits.items():
        grouped = logits.unflatten(1, (2, 3))
        expected = grouped.mean(2) if merge == "mean" else grouped.exp().mean(2).log()
        torch.testing.assert_close(output.class_logits[scale], expected)


def test_only_the_union_tells_prototypes_apart():
    """What the mean's gradient says to one prototype it says to all of its class."""
    cams = torch.tensor([2.0, -1.0])[None, :, None, None].requires_grad_()
    (mean,) = torch.autograd.grad(pool_prototype_cams(cams, 2).sum(), cams)
    (union,) = torch.autograd.grad(pool_prototype_cams(cams, 2, "union").sum(), cams)
    assert mean.flatten().tolist() == [0.5, 0.5]
    assert union.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))])


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 32, 32), torch.zeros(1, 4, 32, 32), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)]
)
def test_wrong_images_are_refused(tiny_network, images):
    with pytest.raises(ShapeError, match="to_network_input"):
        tiny_network(images)


def test_mismatched_features_are_refused():
    with pytest.raises(ShapeError, match="do not share D"):
        prototype_cosines(torch.zeros(1, 3, 2, 2), torch.zeros(2, 4))


def test_an_encoder_without_the_scale_is_refused():
    with pytest.raises(ConfigError, match="4 deepest maps"):
        LPDNet(ModelConfig("levit_128s", class_count=2, scales=(0, 3), scale_weights=(1.0, 1.0)))


def test_prototypes_can_specialise(tiny_network):
    """Prototypes of one class get different gradients as soon as a loss looks at them one by one."""
    output = tiny_network(torch.rand(1, 3, 64, 64))
    weights = torch.linspace(0.5, 1.5, 12)[None, :, None, None]
    (output.prototype_cosines[3] * weights).mean().backward()
    gradients = nn.functional.normalize(tiny_network.prototypes.grad, dim=1)
    assert not math.isclose(float(gradients[0] @ gradients[1]), 1.0, abs_tol=1e-4)


def test_a_tile_size_is_tried_before_any_work():
    fixed = LPDNet(ModelConfig("mixer_s32_224", class_count=2, prototype_dim=8))
    with pytest.raises(ConfigError, match=r"mixer_s32_224 cannot take tiles of 64 px \(.*224.*\): cut the tiles"):
        check_tile_px(fixed, 64)
    assert fixed.training


def test_trying_a_tile_size_changes_nothing():
    network = LPDNet(ModelConfig("resnet18", class_count=2, prototype_dim=8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    check_tile_px(network, 64)
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "scales", "expected"),
    [
        ("mobilenetv2_100", (1, 2, 3), True),
        ("mit_b0", (1, 2, 3), True),
        ("swin_tiny_patch4_window7_224", (1, 2, 3), True),
        ("vit_tiny_patch16_224", (3,), False),
        ("coat_lite_tiny", (1, 2, 3), False),
        ("mixer_s32_224", (3,), False),
    ],
)
def test_which_encoders_see_a_picture_alike_in_any_size(encoder, scales, expected):
    config = ModelConfig(encoder, 3, scales=scales, scale_weights=(1.0,) * len(scales))
    before = torch.get_rng_state()
    assert sees_any_size(config, 672) is expected
    assert torch.equal(torch.get_rng_state(), before)
