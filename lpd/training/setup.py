"""What a training starts from: network, optimiser, and the record of where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lpd.classes import ClassScheme
from lpd.config import ModelConfig
from lpd.model.encoder_weights import load_encoder_weights
from lpd.model.header import file_digest
from lpd.model.network import LPDNet
from lpd.training.config import FROM_SCRATCH, TrainConfig
from lpd.training.schedule import freeze


@dataclass(frozen=True)
class Origin:
    """Where the encoder's weights came from: ``file`` is a bare name or ``none``, ``sha256`` empty without a file."""

    file: str
    sha256: str = ""
    notice: str = ""


def build_network(config: TrainConfig, scheme: ClassScheme) -> tuple[LPDNet, Origin]:
    """A network as the settings describe it, with its encoder loaded and its frozen parameters frozen.

    Raises:
        ConfigError: the encoder is unknown or a ``frozen`` prefix fits nothing.
        CheckpointError: the weights file does not fit the encoder.
    """
    network = LPDNet(
        ModelConfig(
            encoder=config.encoder,
            class_count=scheme.count,
            prototypes_per_class=config.prototypes_per_class,
            prototype_dim=config.prototype_dim,
            scales=config.scales,
            scale_weights=config.scale_weights,
            timm_options=config.timm_options,
        )
    )
    origin = Origin(FROM_SCRATCH)
    if config.encoder_weights != FROM_SCRATCH:
        path = Path(config.encoder_weights)
        loaded = load_encoder_weights(network.encoder, path)
        origin = Origin(path.name, file_digest(path).removeprefix("sha256:"), loaded.notice)
        if config.freeze_norm:
            network.encoder.freeze_batch_norm()
    freeze(network.encoder.body, config.frozen)
    return network, origin


def build_optimizer(network: LPDNet, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a group each for prototypes, encoder and heads; ``initial_lr`` of a group is its full rate."""
    encoder_rate = config.learning_rate * config.encoder_lr_factor
    groups = [
        _group(network.prototype_parameters(), config.learning_rate * config.prototype_lr_factor, 0.0),
        *_split(list(network.encoder.parameters()), encoder_rate, config.weight_decay),
        *_split(network.head_parameters(), config.learning_rate, config.weight_decay),
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def _split(parameters: list[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    # Decay pulls towards zero, which is a neutral value for kernels but not for gains, norms and biases.
    trained = [p for p in parameters if p.requires_grad]
    return [
        _group([p for p in trained if p.ndim > 1], rate, decay),
        _group([p for p in trained if p.ndim <= 1], rate, 0.0),
    ]


def _group(parameters: list[nn.Parameter], rate: float, decay: float) -> dict[str, object]:
    return {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
