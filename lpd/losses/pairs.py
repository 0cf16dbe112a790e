"""What L_sim looks at: the (image, prototype) pairs of a step, and the part of the image that each prototype marks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpd.errors import ShapeError

THRESHOLD = 0.5


def select_pairs(
    labels: Tensor, prototypes_per_class: int, cap: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose pairs of an image and a prototype whose class the image's label names.

    Evenly: the numbers of pairs of any two classes differ by at most 1, unless one of them has no more pairs to give;
    within a class, so do the numbers of pairs of its images, and those of its prototypes. What is left open is drawn at
    random, so that every pair has its turn. No pair comes twice.

    Args:
        labels: (B, C), above 0 where the class is present, on any device.
        prototypes_per_class: K.
        cap: largest number of pairs; 0 for all.
        generator: of the CPU; the same state gives the same pairs.

    Returns:
        image_index, prototype_index: (N,) int64 each, on the labels' device; N = 0 if no image has a class.

    Raises:
        ShapeError: the labels are not (B, C).
    """
    if labels.ndim != 2:
        raise ShapeError(f"labels are {tuple(labels.shape)}, not (B, C)")
    present = labels.detach().cpu() > 0
    turns, images, prototypes = [], [], []
    for index in torch.randperm(present.shape[1], generator=generator).tolist():
        image, prototype = _diagonals(present[:, index].nonzero().squeeze(1), prototypes_per_class, generator)
        turns.append(torch.arange(len(image)))
        images.append(image)
        prototypes.append(prototype + index * prototypes_per_class)
    # The classes give their first pair in turn, in random order, then their second …: the sort is stable.
    order = torch.cat(turns).argsort(stable=True)[: cap or None]
    return torch.cat(images)[order].to(labels.device), torch.cat(prototypes)[order].to(labels.device)


@torch.no_grad()
def prototype_masks(
    cams: Tensor, image_index: Tensor, prototype_index: Tensor, *, threshold: float = THRESHOLD, joint: bool = False
) -> Tensor:
    """Where a prototype's CAM, stretched to 0–1 within the image, reaches ``threshold``.

    Each mask holds the CAM's peak, whatever its sign; a constant CAM, which prefers nothing, marks the whole image.
    Masks pass no gradient on.

    Args:
        cams: (B, M, h, w) cosines or logits.
        image_index, prototype_index: (N,) int64, the pairs.
        threshold: in [0, 1].
        joint: the official code's rule instead: the raw CAM reaches ``threshold`` times the largest value of *all*
            prototypes in the image. A weak prototype then marks nothing, and so do all if that value is negative.

    Returns:
        (N, h, w) bool.

    Raises:
        ShapeError: the CAMs are not (B, M, h, w), or the indices not both (N,).
    """
    if cams.ndim != 4 or image_index.ndim != 1 or image_index.shape != prototype_index.shape:
        raise ShapeError(
            f"CAMs {tuple(cams.shape)}, images {tuple(image_index.shape)} and prototypes "
            f"{tuple(prototype_index.shape)} are not (B, M, h, w), (N,) and (N,)"
        )
    # Half precision has so few values that a peak of its own would be shared by its neighbours after the subtraction.
    chosen = cams[image_index, prototype_index].to(torch.promote_types(cams.dtype, torch.float32))
    if joint:
        return chosen >= threshold * cams.amax((1, 2, 3)).to(chosen.dtype)[image_index, None, None]
    low, high = chosen.amin((1, 2), keepdim=True), chosen.amax((1, 2), keepdim=True)
    return chosen - low >= threshold * (high - low)


def _diagonals(images: Tensor, prototypes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All pairs of ``images`` (n,) and the numbers below ``prototypes``, in an order even in both from any start.

    Walks the diagonals of the n × K table, both sides in random order; where a diagonal closes on itself, after
    lcm(n, K) steps, the next one begins.
    """
    count = len(images)
    step = torch.arange(count * prototypes)
    rows, columns = (torch.randperm(n, generator=generator) for n in (count, prototypes))
    closed = math.lcm(count, prototypes)
    return images[rows[step % count]], columns[(step + step // closed) % prototypes]
