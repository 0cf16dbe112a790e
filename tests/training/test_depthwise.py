"""Quicker gradients of depthwise convolutions: the same numbers, and only where they are worth it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lpd.data.tiles import TileSet
from lpd.recipe.settings_file import read_config
from lpd.runs import Run
from lpd.training import loop
from lpd.training.depthwise import hasten_depthwise


def _layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=8),
        nn.Conv2d(16, 16, 5, padding=4, dilation=2, groups=16, bias=False),
    ).to(memory_format=torch.channels_last)


def _outcome(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    images = images.clone().requires_grad_()
    result = network(images)
    weights = torch.linspace(-1, 1, result.numel()).view_as(result)
    return result, list(torch.autograd.grad((result * weights).sum(), [images, *network.parameters()]))


@pytest.mark.parametrize("size", [(24, 32), (26, 28), (21, 27)], ids=["even", "odd after stride", "odd"])
def test_values_and_gradients_stay(size):
    plain = _layers()
    quick = copy.deepcopy(plain)
    assert hasten_depthwise(quick) == 3
    images = torch.randn(2, 3, *size)
    (expected, gradients), (result, quick_gradients) = _outcome(plain, images), _outcome(quick, images)
    torch.testing.assert_close(result, expected)
    for ours, theirs in zip(quick_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_autocast_still_gives_half_precision_and_nearly_the_same():
    plain = _layers()
    quick = copy.deepcopy(plain)
    hasten_depthwise(quick)
    images = torch.randn(2, 3, 24, 24)
    with torch.autocast("cpu", torch.bfloat16):
        (expected, gradients), (result, quick_gradients) = _outcome(plain, images), _outcome(quick, images)
    assert result.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(result, expected, rtol=0.05, atol=0.02)
    for ours, theirs in zip(quick_gradients, gradients, strict=True):
        assert (ours - theirs).norm() <= 0.02 * theirs.norm()


def test_a_training_on_a_cpu_uses_them(few_tiles, tmp_path, monkeypatch):
    changed = []

    def watched(network: nn.Module) -> int:
        changed.append(hasten_depthwise(network))
        return changed[-1]

    monkeypatch.setattr(loop, "hasten_depthwise", watched)
    settings = ["encoder.name=mobilenetv2_050", "encoder.weights=none", "prototypes.dim=16", "loop.precision=bf16"]
    config = read_config(overrides=[*settings, "optimizer={epochs: 1, batch_size: 2}", "encoder.frozen=[conv_stem]"])
    with Run(tmp_path, "train") as run:
        loop.train(config, TileSet.open(few_tiles, "train"), None, run)
    assert changed == [6]  # three strided layers and the three dilated ones that stride 1 makes of the last stage


def test_names_and_frozen_layers_are_left_alone():
    network = _layers()
    names = list(network.state_dict())
    network.requires_grad_(False)
    assert hasten_depthwise(network) == 0
    network[2].weight.requires_grad_()
    assert hasten_depthwise(network) == 1
    assert list(network.state_dict()) == names
