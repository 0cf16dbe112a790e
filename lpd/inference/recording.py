"""Recording: an encoder's steps for images of one shape, for those who run them in another way than layer by layer."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn


def recorded(encoder: nn.Module, images: Tensor, *, frozen: bool = False) -> Any:
    """TorchScript that gives the encoder's maps as a tuple; what depends on the images' shape has become constant.

    Args:
        encoder: in evaluation mode.
        images: (B, 3, H, W) floating, of any content.
        frozen: weights become constant too, and batch norms are folded into the layers before them.
    """
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # shapes becoming constant is meant; and torch means to give recording up
        module, blank = _Tuple(encoder).eval(), torch.zeros_like(images)
        script = torch.jit.trace(module, blank, check_trace=False)  # type: ignore[no-untyped-call]
        return torch.jit.freeze(script) if frozen else script


class _Tuple(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(images))
