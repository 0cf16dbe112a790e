"""L_sim as a training sees it: pairs, masks, a frozen tower, and the prototypes' way into the tower's space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpd.errors import ConfigError, ShapeError
from lpd.losses.pairs import prototype_masks, select_pairs
from lpd.losses.similarity import similarity_loss, similarity_margins
from lpd.model.cam import at_least_float32
from lpd.model.towers import Tower
from lpd.recipe.losses import SimilarityOptions


@dataclass(frozen=True, eq=False)
class SimilarityLosses:
    """The parts of L_sim, each a scalar tensor.

    Attributes:
        foreground, background: L_FG and L_BG.
        cam_mean: mean of the CAMs.
        total: ``L_FG + L_BG + cam_penalty · mean CAM``, still without λ_sim.
    """

    foreground: Tensor
    background: Tensor
    cam_mean: Tensor
    total: Tensor


class SimilarityTerm(nn.Module):
    """``L_FG + L_BG + 5e-4 · mean CAM`` of one step (arXiv 2512.05922).

    Gradients of L_FG and L_BG reach the prototypes and the projection; the CAMs, which only cut the masks out, are
    reached by their mean alone. ``state_dict`` and ``parameters`` hold the projection: the tower is built again from
    where it came from.

    Attributes:
        tower: frozen; follows to the device that the term is moved to.
        options: how it is computed.
        projection: prototype → the tower's space, without bias. It starts as the identity where both have one length,
            which is what the official code compares, and else as a random orthogonal map, which keeps the angles
            between prototypes as well as that length allows.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        prototype_dim: int,
        class_count: int,
        prototypes_per_class: int,
        options: SimilarityOptions | None = None,
    ) -> None:
        """Raises ConfigError if there is one class only, so that no prototype has negatives."""
        super().__init__()
        if class_count < 2:
            raise ConfigError("L_sim tells classes apart and needs 2 of them, not 1: switch it off")
        self.tower, self.options = tower, options or SimilarityOptions()
        self._class_count, self._prototypes_per_class = class_count, prototypes_per_class
        self.projection = nn.Linear(prototype_dim, tower.dim, bias=False)
        same = prototype_dim == tower.dim
        (nn.init.eye_ if same else nn.init.orthogonal_)(self.projection.weight)

    def forward(
        self,
        network_input: Tensor,
        prototypes: Tensor,
        cams: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        half: torch.dtype | None = None,
    ) -> SimilarityLosses:
        """Compute L_sim of a batch.

        Args:
            network_input: (B, 3, H, W) images as the network got them; 0 is the mean colour, which fills what a mask
                leaves out.
            prototypes: (M, D) parameter, M = C · K class-major.
            cams: (B, M, h, w) cosines of the deepest scale. Logits, which the official code averages, give the same
                masks.
            labels: (B, C), above 0 where the class is present.
            generator: of the CPU, draws the pairs.
            half: half-precision type that the tower computes in; None for full precision.

        Raises:
            ShapeError: the shapes do not fit one another or the term.
        """
        self._check(network_input, prototypes, cams, labels)
        o = self.options
        chosen = select_pairs(labels, self._prototypes_per_class, o.pair_cap, generator)
        images, pair_prototypes = (index.to(cams.device) for index in chosen)
        masks = prototype_masks(cams, images, pair_prototypes, threshold=o.threshold, joint=o.joint_threshold)
        with torch.autocast(cams.device.type, dtype=half, enabled=half is not None):
            foreground, background = at_least_float32(self._embed(network_input, masks, images)).chunk(2)

        with torch.autocast(cams.device.type, enabled=False):
            projected = self.projection(at_least_float32(prototypes))
        shown = masks.flatten(1).any(1) | o.joint_threshold, ~masks.flatten(1).all(1) | o.joint_threshold
        margins = [
            similarity_margins(
                embeddings[kept],
                projected,
                pair_prototypes[kept],
                prototypes_per_class=self._prototypes_per_class,
                temperature=o.temperature,
                exclude_same_class=o.exclude_same_class,
            )
            for embeddings, kept in zip((foreground, background), shown, strict=True)
        ]
        losses = similarity_loss(margins[0], margins[1])
        cam_mean = at_least_float32(cams).mean()
        return SimilarityLosses(*losses, cam_mean, losses[0] + losses[1] + o.cam_penalty * cam_mean)

    @torch.no_grad()
    def _embed(self, network_input: Tensor, masks: Tensor, images: Tensor) -> Tensor:
        """(2N, D) embeddings: of what each mask holds, then of what it leaves out."""
        both, twice = torch.cat([masks, ~masks]), images.repeat(2)
        if self.options.masking == "features":
            return self.tower.embed_masked(network_input, both, twice)
        # Nearest: what is shown is what the CAM's own pixels hold, to the pixel.
        shown = functional.interpolate(both[:, None].to(network_input.dtype), network_input.shape[2:], mode="nearest")
        return self.tower.embed(network_input[twice] * shown)

    def _check(self, network_input: Tensor, prototypes: Tensor, cams: Tensor, labels: Tensor) -> None:
        batch, count = len(network_input), self._class_count * self._prototypes_per_class
        if (
            network_input.ndim != 4
            or prototypes.shape != (count, self.projection.in_features)
            or cams.ndim != 4
            or cams.shape[:2] != (batch, count)
            or labels.shape != (batch, self._class_count)
        ):
            raise ShapeError(
                f"images {tuple(network_input.shape)}, prototypes {tuple(prototypes.shape)}, CAMs {tuple(cams.shape)} "
                f"and labels {tuple(labels.shape)} are not those of {self._class_count} classes with "
                f"{self._prototypes_per_class} prototypes of {self.projection.in_features}"
            )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SimilarityTerm:
        # The tower is no submodule, so that nobody saves or trains it, but it must be where the images are.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # untyped in torch
        self.tower.to(self.projection.weight.device)
        return self
