"""The objective: ``L_cls + λ_pix · L_pix + λ_sim · L_sim + λ_div · L_div`` of one batch, and when its parts join in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lpd.config import InputSpec
from lpd.errors import ConfigError
from lpd.losses.classification import classification_loss
from lpd.losses.diversity import diversity_loss, pseudo_masks
from lpd.losses.official import official_diversity_loss
from lpd.losses.pixels import pixel_loss
from lpd.model.cam import prototype_cosines
from lpd.model.network import LPDNet, LPDOutput
from lpd.model.towers import AveragedTower, Tower, TowerView, averaged_tower, own_tower, timm_tower
from lpd.recipe.config import TrainConfig
from lpd.training.precision import autocast_type
from lpd.training.schedule import AveragedWeights
from lpd.training.similarity import SimilarityTerm


@dataclass(frozen=True, eq=False)
class Losses:
    """The parts of one step's loss, each a scalar tensor; ``total`` is what the gradient is taken of."""

    total: Tensor
    classification: Tensor
    pixels: Tensor
    similarity: Tensor
    diversity: Tensor

    def numbers(self) -> dict[str, float]:
        """As plain numbers, by the names they have in the metrics."""
        return {
            "loss": self.total.item(),
            "classification": self.classification.item(),
            "pixels": self.pixels.item(),
            "similarity": self.similarity.item(),
            "diversity": self.diversity.item(),
        }


#: Names of the losses in the metrics.
LOSS_NAMES = ("loss", "classification", "pixels", "similarity", "diversity")


class Objective(nn.Module):
    """A network and all its losses in one module, so that one call does the forward pass of a step.

    Attributes:
        network: what is trained.
        similarity: L_sim with its frozen tower, None where it is off.
    """

    def __init__(self, network: LPDNet, config: TrainConfig, spec: InputSpec) -> None:
        """Build the losses; the network's encoder must hold its starting weights already.

        Raises:
            ConfigError: the tower of L_sim is unknown, L_sim is asked for with one class only, or the official L_div
                with prototypes of another length than the deepest map.
            CheckpointError: the tower's weights file does not fit.
        """
        super().__init__()
        self.network = network
        self._config = config
        _check_official(config, network)
        self.similarity: SimilarityTerm | None = _similarity_term(config, network, spec)

    def forward(self, images: Tensor, labels: Tensor, *, joined: bool) -> Losses:
        """Losses of one batch; random numbers come from torch's global state.

        Args:
            images: (B, 3, H, W) network input.
            labels: (B, C) image labels, 0 or 1.
            joined: whether L_sim and L_div count in this step.
        """
        losses, config = self._config.losses, self._config
        half = autocast_type(config.loop.precision, images.device)
        with torch.autocast(images.device.type, dtype=half, enabled=half is not None):
            output: LPDOutput = self.network(images)
        scores = [output.image_scores(s) for s in config.cam.scales]
        classification = classification_loss(scores, labels, config.cam.loss_weights)
        pixels = diversity = similarity = classification.new_zeros(())
        if losses.pixels.weight:
            pixels = self._over_scales(lambda scale: pixel_loss(output.class_logits[scale], labels))
        if joined and losses.diversity.weight and self.network.config.prototypes_per_class > 1:
            diversity = self._diversity(output, labels)
        if joined and self.similarity is not None:
            # The official code averages and cuts raw logits; in cosines the penalty means the same for every gain.
            cams = output.prototype_logits if losses.similarity.joint_threshold else output.prototype_cosines
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            prototypes, deepest = self.network.prototypes, cams[output.deepest]
            similarity = self.similarity(images, prototypes, deepest, labels, generator, half).total
        total = classification + losses.pixels.weight * pixels
        total = total + losses.similarity.weight * similarity + losses.diversity.weight * diversity
        return Losses(total, classification, pixels, similarity, diversity)

    def refresh(self, average: AveragedWeights) -> None:
        """Let a tower that follows the averaged weights catch up; call it before each step that L_sim is part of."""
        if self.similarity is not None and isinstance(self.similarity.tower, AveragedTower):
            self.similarity.tower.refresh(average.values)

    def _diversity(self, output: LPDOutput, labels: Tensor) -> Tensor:
        """L_div, averaged over scales as L_cls is; the official one looks at the deepest scale alone."""
        settings = self._config.losses.diversity
        if settings.variant == "official":
            deepest = output.deepest
            cosines = prototype_cosines(output.features[deepest], self.network.prototypes)
            return official_diversity_loss(self._by_class(cosines), output.class_logits[deepest])
        return self._over_scales(
            lambda scale: diversity_loss(
                self._by_class(output.prototype_cosines[scale]),
                pseudo_masks(output.class_logits[scale], labels),
                temperature=settings.temperature,
            )
        )

    def _over_scales(self, loss: Callable[[int], Tensor]) -> Tensor:
        """Mean of a loss over scales, each counting as in L_cls."""
        cam = self._config.cam
        terms = [weight * loss(scale) for scale, weight in zip(cam.scales, cam.loss_weights, strict=True) if weight]
        return torch.stack(terms).sum() / sum(cam.loss_weights)

    def _by_class(self, cosines: Tensor) -> Tensor:
        """(B, C * K, h, w) as (B, C, K, h, w)."""
        config = self.network.config
        return cosines.reshape(len(cosines), config.class_count, config.prototypes_per_class, *cosines.shape[2:])


def _check_official(config: TrainConfig, network: LPDNet) -> None:
    """Refuse before the first step what would fail only once the losses join in."""
    settings, depth = config.losses.diversity, network.encoder.channels[-1]
    active = settings.weight > 0 and network.config.prototypes_per_class > 1
    if active and settings.variant == "official" and network.config.prototype_dim != depth:
        raise ConfigError(
            f"losses.diversity.variant official compares raw prototypes of {network.config.prototype_dim} numbers with "
            f"the encoder's deepest map, which has {depth} channels: set prototypes.dim={depth}"
        )


def _similarity_term(config: TrainConfig, network: LPDNet, spec: InputSpec) -> SimilarityTerm | None:
    settings = config.losses.similarity
    if not settings.active:
        return None
    return SimilarityTerm(
        _tower(config, network, spec),
        prototype_dim=network.config.prototype_dim,
        class_count=network.config.class_count,
        prototypes_per_class=network.config.prototypes_per_class,
        options=settings,
    )


def _tower(config: TrainConfig, network: LPDNet, spec: InputSpec) -> Tower:
    settings = config.losses.similarity
    if settings.tower == "own":
        return own_tower(network.encoder, pretrained=config.encoder.pretrained)
    if settings.tower == "ema":
        return averaged_tower(network.encoder)
    weights = Path(settings.weights) if settings.weights else None
    view = TowerView(settings.mean, settings.std) if settings.mean and settings.std else None
    return timm_tower(settings.name, weights, spec, view=view, options=settings.options, random=settings.random)
