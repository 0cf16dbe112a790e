"""Depthwise convolutions whose gradients cost on a CPU what their arithmetic is worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


def hasten_depthwise(network: nn.Module) -> int:
    """Make the backward pass of a network's depthwise convolutions quicker on a CPU; what they compute stays.

    oneDNN has no quick gradient for two kinds (measured with MobileNetV2, in ``benchmarks/speed``): dilated ones, which
    are the same as plain ones on the ``d²`` interleaved grids of every d-th pixel, and strided ones in bf16, which run
    in fp32 here. Parameters, their names and the state dict are untouched; layers without gradients are left alone.

    Args:
        network: changed in place; frozen parameters must be frozen already.

    Returns:
        How many layers were changed.
    """
    changed = 0
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d) or not _depthwise(layer) or not layer.weight.requires_grad:
            continue
        plain: Callable[[Tensor], Tensor] = layer.forward
        if _dilated_in_place(layer):
            layer.forward = partial(_by_grids, layer, plain)  # type: ignore[method-assign]
        elif max(layer.stride) > 1:
            layer.forward = partial(_in_fp32, plain)  # type: ignore[method-assign]
        else:
            continue
        changed += 1
    return changed


def _depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels > 1


def _dilated_in_place(layer: nn.Conv2d) -> bool:
    """Whether a layer is dilated alike in both directions and keeps the size of its maps."""
    dilation, kernel = layer.dilation[0], layer.kernel_size[0]
    return (
        dilation > 1
        and layer.dilation == (dilation, dilation)
        and layer.kernel_size == (kernel, kernel)
        and layer.stride == (1, 1)
        and layer.padding == (dilation * (kernel // 2),) * 2
        and kernel % 2 == 1
        and layer.padding_mode == "zeros"
    )


def _by_grids(layer: nn.Conv2d, plain: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """A dilated convolution as a plain one over interleaved grids, which a dilated kernel never mixes."""
    batch, channels, height, width = maps.shape
    d = layer.dilation[0]
    if height % d or width % d:
        return plain(maps)
    # Channels stay innermost throughout, so that every copy moves whole rows of them.
    rows, columns = height // d, width // d
    grids = maps.permute(0, 2, 3, 1).reshape(batch, rows, d, columns, d, channels).permute(2, 4, 0, 1, 3, 5)
    stacked = grids.reshape(d * d * batch, rows, columns, channels).permute(0, 3, 1, 2)
    padding = layer.kernel_size[0] // 2
    result = functional.conv2d(stacked, layer.weight, layer.bias, padding=padding, groups=layer.groups)
    split = result.permute(0, 2, 3, 1).reshape(d, d, batch, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
    return split.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _in_fp32(plain: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        return plain(maps.float()).to(maps.dtype)
