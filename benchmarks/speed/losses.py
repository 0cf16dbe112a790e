"""Losses alone: diversity and contrast of equal tensors, forward and backward, and how far both results differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.official import contrast_by_pairs, diversity_by_loops, merge_cams, pseudo_mask
from benchmarks.speed.scene import Scene
from benchmarks.speed.timing import Row, compare
from lpd.losses.diversity import diversity_loss, pseudo_masks
from lpd.losses.official import official_diversity_loss
from lpd.losses.similarity import similarity_loss, similarity_margins
from lpd.model.cam import prototype_cosines

#: Sizes of MiT-B1's maps of a 224 px tile: (side, D).
MAPS = ((28, 128), (14, 320), (14, 512))
CLASSES = 4
_DIM = 512
_GAIN = 1 / 0.07

Gradients = tuple[Tensor, ...]
Work = Callable[[], tuple[Tensor, Gradients]]


@dataclass(frozen=True, eq=False)
class DiversityInput:
    """Leaf tensors of L_div: (B, D, h, w) features, (M, D) prototypes; and (B, M, h, w) CAMs with (B, C) labels."""

    features: Tensor
    prototypes: Tensor
    cams: Tensor
    labels: Tensor
    per_class: int

    @classmethod
    def random(cls, scene: Scene, side: int, depth: int, per_class: int) -> DiversityInput:
        """Maps in which most images show several classes, and some background."""
        torch.manual_seed(side + depth + per_class)
        batch = scene.batch_size
        features = torch.randn(batch, depth, side, side, device=scene.device, requires_grad=True)
        prototypes = torch.randn(CLASSES * per_class, depth, device=scene.device, requires_grad=True)
        coarse = torch.randn(batch, CLASSES, 4, 4, device=scene.device) * 3 - 1
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        labels = (torch.rand(batch, CLASSES, device=scene.device) < 0.5).float()
        labels[:, 0] = 1
        shown = smooth.where(labels[:, :, None, None] > 0, -5.0)
        return cls(features, prototypes, shown.repeat_interleave(per_class, 1), labels, per_class)

    @property
    def class_logits(self) -> Tensor:
        """(B, C, h, w)."""
        return merge_cams(self.cams, CLASSES, self.per_class)

    def grouped_cosines(self) -> Tensor:
        """(B, C, K, h, w)."""
        cosines = prototype_cosines(self.features, self.prototypes)
        return cosines.reshape(len(cosines), CLASSES, self.per_class, *cosines.shape[2:])

    def official(self) -> Tensor:
        """The authors' L_div, by loops."""
        mask = pseudo_mask(self.cams, CLASSES, self.per_class, self.features.shape[2:])
        return diversity_by_loops(self.features, self.prototypes, mask, self.per_class)

    def same(self) -> Tensor:
        """The same number without loops."""
        return official_diversity_loss(self.grouped_cosines(), self.class_logits)

    def corrected(self) -> Tensor:
        """The corrected L_div."""
        return diversity_loss(self.grouped_cosines(), pseudo_masks(self.class_logits, self.labels))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gradients are taken of."""
        return self.features, self.prototypes


@dataclass(frozen=True, eq=False)
class ContrastInput:
    """Leaf tensors of L_sim: (N, D) embeddings of both sides, (M, D) prototypes; and (B, M) which pairs are chosen."""

    foreground: Tensor
    background: Tensor
    prototypes: Tensor
    chosen: Tensor
    per_class: int

    @classmethod
    def random(cls, scene: Scene, per_class: int) -> ContrastInput:
        """Half of the prototypes of half of the classes of each image."""
        torch.manual_seed(per_class)
        count = CLASSES * per_class
        chosen = (torch.rand(scene.batch_size, count, device=scene.device) < 0.25).float()
        chosen[0, 0] = 1
        pairs = int(chosen.sum())
        sides = [torch.randn(pairs, _DIM, device=scene.device, requires_grad=True) for _ in range(2)]
        prototypes = torch.randn(count, _DIM, device=scene.device, requires_grad=True)
        return cls(sides[0], sides[1], prototypes, chosen, per_class)

    def official(self) -> Tensor:
        """The authors' L_FG + L_BG, by pairs."""
        return contrast_by_pairs(self.foreground, self.background, self.prototypes, self.chosen)

    def same(self) -> Tensor:
        """The same number without loops."""
        pair_prototypes = self.chosen.nonzero()[:, 1]
        margins = [
            similarity_margins(
                side,
                self.prototypes,
                pair_prototypes,
                prototypes_per_class=self.per_class,
                exclude_same_class=False,
            )
            for side in (self.foreground, self.background)
        ]
        foreground, background = similarity_loss(margins[0], margins[1])
        return foreground + background

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gradients are taken of."""
        return self.foreground, self.background, self.prototypes


def losses(scene: Scene) -> list[Row]:
    """Time both losses for every K and map."""
    rows = []
    for per_class in scene.per_class:
        for side, depth in MAPS:
            tensors = DiversityInput.random(scene, side, depth, per_class)
            work = {
                "official": _with_gradients(tensors.official, tensors.leaves),
                "ours, same loss": _with_gradients(tensors.same, tensors.leaves),
                "ours, corrected": _with_gradients(tensors.corrected, tensors.leaves),
            }
            note = {"ours, same loss": _agreement(work["official"], work["ours, same loss"])}
            case = f"diversity, {side}² × {depth}, K {per_class}"
            rows += compare("losses", case, work, scene.rounds, scene.clock, notes=note)
        pairs = ContrastInput.random(scene, per_class)
        both = {
            "official": _with_gradients(pairs.official, pairs.leaves),
            "ours, same loss": _with_gradients(pairs.same, pairs.leaves),
        }
        note = {"ours, same loss": _agreement(both["official"], both["ours, same loss"])}
        case = f"contrast, {len(pairs.foreground)} pairs, K {per_class}"
        rows += compare("losses", case, both, scene.rounds, scene.clock, notes=note)
    return rows


def _with_gradients(loss: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> Work:
    def work() -> tuple[Tensor, Gradients]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, leaves)

    return work


def _agreement(first: Work, second: Work) -> str:
    loss, gradient = differences(first, second)
    return f"loss differs by {loss:.0e}, gradient by {gradient:.0e} of its length"


def differences(first: Work, second: Work) -> tuple[float, float]:
    """How far two losses lie apart, and two gradients relative to the first one's length."""
    (one, own), (other, others) = first(), second()
    here, there = (torch.cat([g.flatten() for g in gradients]).double() for gradients in (own, others))
    return float((one - other).abs()), float((here - there).norm() / here.norm())
