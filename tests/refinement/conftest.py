"""Small images with known colours, and probabilities that do not yet follow them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

HEIGHT, WIDTH = 32, 40
EDGE = 20  # first column of the second colour


@pytest.fixture
def two_colours() -> Tensor:
    """(1, 3, 32, 40): pink left of column 20, violet from there on."""
    image = torch.empty(1, 3, HEIGHT, WIDTH)
    image[..., :EDGE] = torch.tensor([0.9, 0.6, 0.75])[None, :, None, None]
    image[..., EDGE:] = torch.tensor([0.45, 0.25, 0.6])[None, :, None, None]
    return image


@pytest.fixture
def late_border() -> Tensor:
    """(1, 2, 32, 40): class 0 fades into class 1 around column 24, four columns after the colours change."""
    right = torch.sigmoid((torch.arange(WIDTH) + 0.5 - 24) / 3).expand(1, 1, HEIGHT, WIDTH)
    return torch.cat((1 - right, right), 1)


@pytest.fixture
def patches() -> Callable[..., Tensor]:
    """Make (1, 3, H, W) images of smooth coloured regions with grain."""

    def make(seed: int, noise: float = 0.03, height: int = 20, width: int = 24) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 3, 4, 5, generator=generator)
        smooth = functional.interpolate(coarse, (height, width), mode="bicubic")
        return (smooth + noise * torch.randn(1, 3, height, width, generator=generator)).clamp(0, 1)

    return make


@pytest.fixture
def guesses() -> Callable[..., Tensor]:
    """Make (1, C, H, W) smooth probabilities that know nothing of any image."""

    def make(seed: int, classes: int = 3, height: int = 20, width: int = 24) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(1, classes, 5, 6, generator=generator)
        return functional.interpolate(coarse, (height, width), mode="bilinear").mul(1.2).softmax(1)

    return make
