"""Runners: the ways to run an encoder, which is nearly all of a network's work; what they make is read in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lpd.errors import ConfigError
from lpd.inference.devices import computes_bf16
from lpd.inference.openvino_runner import OpenVinoRunner, openvino_precisions
from lpd.inference.recording import recorded
from lpd.inference.settings import BACKENDS, BackendName

#: (B, 3, H, W) fp32 images, normalised, to the encoder's maps, fine to deep, (B, D_s, h_s, w_s) fp32.
Runner: TypeAlias = Callable[[Tensor], Sequence[Tensor]]

#: The reference: PyTorch in fp32, layer by layer.
REFERENCE: BackendName = "torch"
_OPENVINO = {"openvino": "f32", "openvino-bf16": "bf16"}
_HALF = {"torch-bf16": torch.bfloat16, "torch-fp16": torch.float16}


def alternatives(device: torch.device) -> tuple[BackendName, ...]:
    """Names of what may be quicker than the reference on a device, the likeliest first."""
    if device.type != "cpu":
        return ("torch-fp16", "torch-bf16") if device.type == "cuda" else ("torch-fp16",)
    precisions = openvino_precisions()
    if not precisions:
        return ("torch-bf16", "torch-frozen") if computes_bf16(device) else ("torch-frozen",)
    return ("openvino-bf16", "openvino") if "bf16" in precisions else ("openvino",)


def make_runner(name: BackendName, encoder: nn.Module, device: torch.device) -> Runner:
    """A way to run an encoder that lies on ``device``, in evaluation mode.

    Raises:
        ConfigError: this machine or this device cannot, or there is no such way.
    """
    if name in _OPENVINO:
        return OpenVinoRunner(encoder, device, _OPENVINO[name])
    if name == "torch-frozen":
        return _Frozen(encoder)
    if name in _HALF:
        if device.type == "cpu" and name == "torch-fp16":
            raise ConfigError("backend torch-fp16 is for GPUs: choose --backend torch-bf16, or auto")
        return _Torch(encoder, device, _HALF[name])
    if name != REFERENCE:  # a result may name one that another version had
        raise ConfigError(f"backend {name!r} is unknown here: choose one of {', '.join(BACKENDS)}")
    return _Torch(encoder, device, None)


class _Torch:
    """The encoder as PyTorch runs it, in half precision where it may if ``half`` is given."""

    def __init__(self, encoder: nn.Module, device: torch.device, half: torch.dtype | None) -> None:
        self._encoder, self._device, self._half = encoder, device, half

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            maps = self._encoder(images)
        return [values.float() for values in maps]


class _Frozen:
    """The encoder as a recording for one size of input: batch norms are folded into the layers before them.

    PyTorch means to give this way up; where it has, this backend is refused as any other that fails.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._encoder = encoder
        self._recorded: dict[tuple[int, ...], Any] = {}

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        shape = tuple(images.shape)
        if shape not in self._recorded:
            self._recorded[shape] = recorded(self._encoder, images, frozen=True)
        maps: Sequence[Tensor] = self._recorded[shape](images)
        return maps
