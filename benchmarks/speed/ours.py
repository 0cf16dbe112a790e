"""This package's training step, as its loop does it, from the settings that a person would write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpd.config import InputSpec, ModelConfig
from lpd.model.network import LPDNet
from lpd.model.towers import own_tower
from lpd.recipe.config import TrainConfig
from lpd.recipe.losses import SimilarityOptions
from lpd.recipe.settings_file import read_config
from lpd.training.objective import Losses, Objective
from lpd.training.schedule import AveragedWeights
from lpd.training.setup import build_optimizer
from lpd.training.similarity import SimilarityTerm

#: Settings of the authors' arithmetic: all four scales, their form of L_div.
EQUAL = (
    "cam.scales=[0, 1, 2, 3]",
    "cam.loss_weights=[0.0, 0.1, 1.0, 1.0]",
    "cam.fusion_weights=[0.0, 0.3, 0.3, 0.4]",
)


def equal_settings(encoder: str, per_class: int, *more: str) -> TrainConfig:
    """Preset ``paper_code`` with the first scale computed although it counts nothing; L_sim is put in by hand."""
    return _settings("paper_code", encoder, per_class, *EQUAL, *more)


def default_settings(encoder: str, per_class: int, *more: str) -> TrainConfig:
    """Preset ``bcss``: what a person gets; L_sim is put in by hand."""
    return _settings("bcss", encoder, per_class, *more)


def _settings(preset: str, encoder: str, per_class: int, *more: str) -> TrainConfig:
    common = ("encoder.weights=none", "losses.similarity.tower='off'", "losses.start=0")
    names = (f"encoder.name={encoder}", f"prototypes.per_class={per_class}")
    return read_config(preset, overrides=[*common, *names, *more])


class OurStep:
    """One training step of a network: what the loop does between two batches, but for the shrinking rate."""

    def __init__(
        self,
        network: LPDNet,
        config: TrainConfig,
        spec: InputSpec,
        similarity: SimilarityOptions | None = None,
    ) -> None:
        """Take over a network.

        Args:
            network: changed by every call; it may have more scales than the settings, which are then dropped.
            config: the settings.
            spec: what the network is fed.
            similarity: how L_sim is computed, by the network's encoder as it stands; None leaves it out.
        """
        self.network = network = _with_scales(network, config.cam.scales)
        self._config = config
        self.objective = Objective(network, config, spec)
        if similarity is not None:
            self.objective.similarity = _similarity(network, similarity)
        extra: nn.Module = self.objective.similarity or nn.Module()
        self.optimizer = build_optimizer(network, config, extra.parameters())
        self.average = AveragedWeights(network, config.optimizer.ema_decay)
        if config.loop.compile:
            network.compile()

    def __call__(self, images: Tensor, labels: Tensor) -> Losses:
        """Do a step: (B, 3, H, W) images, (B, C) labels of 0 and 1."""
        losses = self.losses(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        clip = self._config.optimizer.gradient_clip or float("inf")
        nn.utils.clip_grad_norm_(self.objective.parameters(), clip)
        self.optimizer.step()
        self.average.update(self.network)
        return losses

    def losses(self, images: Tensor, labels: Tensor) -> Losses:
        """All losses of a batch."""
        losses: Losses = self.objective(images, labels, joined=True)
        return losses


def _similarity(network: LPDNet, options: SimilarityOptions) -> SimilarityTerm:
    config = network.config
    return SimilarityTerm(
        # The time that a tower takes does not depend on its weights, random here like everything else.
        own_tower(network.encoder, pretrained=True),
        prototype_dim=config.prototype_dim,
        class_count=config.class_count,
        prototypes_per_class=config.prototypes_per_class,
        options=options,
    ).to(network.device)


def _with_scales(network: LPDNet, scales: Sequence[int]) -> LPDNet:
    """The network itself, or one with the same weights that makes CAMs at these scales only."""
    if tuple(scales) == network.config.scales:
        return network
    kept = [(s, w) for s, w in zip(network.config.scales, network.config.scale_weights, strict=True) if s in scales]
    settings = {"scales": [s for s, _ in kept], "scale_weights": [w for _, w in kept]}
    smaller = LPDNet(ModelConfig.from_dict({**network.config.to_dict(), **settings}))
    own = smaller.state_dict()
    smaller.load_state_dict({name: value for name, value in network.state_dict().items() if name in own})
    return smaller.to(network.device).train(network.training)


def channels_last(network: LPDNet) -> LPDNet:
    """The network in the memory format that the loop trains it in."""
    kept: LPDNet = network.to(memory_format=torch.channels_last)
    return kept
