"""What both refinements are given: checked, in fp32 and at the image's size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lpd.errors import ShapeError


def fit(images: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Check images and probabilities, and bring the probabilities to the images' size.

    Args:
        images: (B, 3, H, W) RGB in [0, 1], floating.
        probabilities: (B, C, h, w), floating, on the images' device.

    Returns:
        images: (B, 3, H, W), fp32 or fp64.
        probabilities: (B, C, H, W) in the images' dtype, resized bilinearly unless they had that size.

    Raises:
        ShapeError: a shape or dtype is another one, B differs, or a size is 0.
    """
    shapes = f"images {tuple(images.shape)} {images.dtype} and probabilities {tuple(probabilities.shape)}"
    if images.ndim != 4 or probabilities.ndim != 4 or images.shape[1] != 3 or len(images) != len(probabilities):
        raise ShapeError(f"{shapes} are not (B, 3, H, W) RGB and (B, C, h, w) of one B")
    if not images.is_floating_point() or not probabilities.is_floating_point():
        raise ShapeError(f"{shapes} {probabilities.dtype} must be floating: divide 8-bit images by 255")
    if 0 in images.shape[2:] or 0 in probabilities.shape[1:]:
        raise ShapeError(f"{shapes} hold nothing to refine: give at least one pixel and one class")
    dtype = torch.promote_types(torch.promote_types(images.dtype, probabilities.dtype), torch.float32)
    size = images.shape[2:]
    probabilities = probabilities.to(dtype)
    if probabilities.shape[2:] != size:
        probabilities = functional.interpolate(probabilities, size, mode="bilinear", align_corners=False)
    return images.to(dtype), probabilities
