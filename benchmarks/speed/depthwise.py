"""Depthwise layers: the encoder of preset ``cpu`` forward and backward, with torch's own gradients and with ours."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.speed.scene import Scene
from benchmarks.speed.timing import Row, compare
from lpd.model.encoders import build_encoder
from lpd.recipe.settings_file import read_config
from lpd.training.depthwise import hasten_depthwise
from lpd.training.schedule import freeze

_TILE_PX = 224


def depthwise(scene: Scene) -> list[Row]:
    """Both, in each precision; nothing to compare but on a CPU."""
    if scene.device.type != "cpu":
        return []
    settings = read_config("cpu", overrides=["encoder.weights=none"]).encoder
    torch.manual_seed(0)
    plain = build_encoder(settings.name, maps=3, options=settings.options)
    plain.to(memory_format=torch.channels_last)
    freeze(plain.body, settings.frozen)
    quick = copy.deepcopy(plain)
    changed = hasten_depthwise(quick)
    images = torch.rand(scene.batch_size, 3, _TILE_PX, _TILE_PX).to(memory_format=torch.channels_last)
    rows = []
    for name in scene.precisions:
        half = torch.bfloat16 if name == "bf16" else None
        work = {"torch's own": _Pass(plain, images, half), f"ours, {changed} layers": _Pass(quick, images, half)}
        case = f"{settings.name}, {name}"
        rows += compare("depthwise", case, work, scene.rounds, scene.clock, tiles=scene.batch_size)
    return rows


class _Pass:
    def __init__(self, encoder: nn.Module, images: Tensor, half: torch.dtype | None) -> None:
        self._encoder, self._images, self._half = encoder.train(), images, half

    def __call__(self) -> None:
        self._encoder.zero_grad(set_to_none=True)
        with torch.autocast("cpu", self._half, enabled=self._half is not None):
            maps: list[Tensor] = self._encoder(self._images)
        torch.autograd.backward(maps, [torch.ones_like(m) for m in maps])
