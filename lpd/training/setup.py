"""What a training starts from: network, optimiser, and the record of where they came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lpd.classes import ClassScheme
from lpd.config import ModelConfig
from lpd.errors import ConfigError
from lpd.model.bank import EncoderRecord, PrototypeBank, load_bank
from lpd.model.encoder_weights import load_encoder_weights, start_checkpoint
from lpd.model.header import file_digest
from lpd.model.network import PROTOTYPE_STD, LPDNet
from lpd.recipe.config import FROM_SCRATCH, EncoderConfig, TrainConfig
from lpd.training.schedule import freeze


@dataclass(frozen=True)
class Origin:
    """Where weights came from: ``file`` is a bare name or ``none``, ``sha256`` empty without a file."""

    file: str
    sha256: str = ""
    notice: str = ""


def build_network(config: TrainConfig, scheme: ClassScheme) -> tuple[LPDNet, dict[str, Origin]]:
    """A network as the settings describe it, with its encoder loaded and its frozen parameters frozen.

    Returns:
        The network, and where ``encoder_weights``, ``bank`` and ``tower`` (those that there are) came from.

    Raises:
        ConfigError: the encoder is unknown, a ``frozen`` prefix fits nothing, or the bank is of other classes,
            another encoder or another number of prototypes.
        CheckpointError: the weights file does not fit the encoder, or the bank cannot be read.
    """
    encoder, prototypes = config.encoder, config.prototypes
    bank = _bank(config) if prototypes.clustered else None
    network = LPDNet(
        ModelConfig(
            encoder=encoder.name,
            class_count=scheme.count,
            prototypes_per_class=prototypes.per_class,
            prototype_dim=prototypes.dim if bank is None else bank.vectors.shape[1],
            scales=config.cam.scales,
            scale_weights=config.cam.loss_weights,
            init_temperature=config.cam.temperature,
            last_stride=encoder.last_stride,
            timm_options=encoder.options,
            merge=config.cam.merge,
            head="linear" if prototypes.source == "linear" else "prototypes",
        )
    )
    origins = {"encoder_weights": Origin(FROM_SCRATCH)}
    if encoder.pretrained:
        _check_start(encoder)
        loaded = load_encoder_weights(network.encoder, Path(encoder.weights))
        origins["encoder_weights"] = _origin(encoder.weights, loaded.notice)
        if encoder.freeze_norm:
            network.encoder.freeze_batch_norm()
    freeze(network.encoder.body, encoder.frozen)
    if bank is not None:
        origins["bank"] = _origin(prototypes.bank, bank.info.notice)
        start = origins["encoder_weights"]
        starts_from = EncoderRecord(encoder.name, encoder.options, start.file, start.sha256, encoder.last_stride)
        bank.check_fit(scheme.codes, starts_from, encoder.mean, encoder.std)
        _take_over(network, bank, learn=prototypes.source == "kmeans_init")
    elif prototypes.source == "learnable":
        with torch.no_grad():
            network.prototypes.mul_(prototypes.init_std / PROTOTYPE_STD)
    if config.losses.similarity.tower == "timm":
        weights = config.losses.similarity.weights
        origins["tower"] = _origin(weights) if weights else Origin(FROM_SCRATCH)
    return network, origins


def _check_start(encoder: EncoderConfig) -> None:
    """An encoder goes on as what it was in the model that it is taken from."""
    start = start_checkpoint(Path(encoder.weights))
    if start is None:
        return
    model, fed = start.model, start.input
    before = {"name": model.encoder, "options": model.timm_options, "last_stride": model.last_stride}
    for name, value in {**before, "mean": fed.mean, "std": fed.std}.items():
        if (now := getattr(encoder, name)) != value:
            raise ConfigError(f"model {start.name} has encoder.{name} {_plain(value)}: set it so, it is {_plain(now)}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _origin(file: str, notice: str = "") -> Origin:
    return Origin(Path(file).name, file_digest(Path(file)).removeprefix("sha256:"), notice)


def _bank(config: TrainConfig) -> PrototypeBank:
    bank = load_bank(Path(config.prototypes.bank))
    if bank.info.per_class != config.prototypes.per_class:
        raise ConfigError(
            f"{config.prototypes.bank} holds {bank.info.per_class} prototypes per class: set prototypes.per_class to "
            f"that (now {config.prototypes.per_class}), or build another bank"
        )
    return bank


def _take_over(network: LPDNet, bank: PrototypeBank, *, learn: bool) -> None:
    """Put a bank's centroids in place of the random prototypes, at the length that those would have."""
    vectors = torch.as_tensor(bank.vectors)
    with torch.no_grad():
        network.prototypes.copy_(vectors * PROTOTYPE_STD * vectors.shape[1] ** 0.5)
    network.prototypes.requires_grad_(learn)


def build_optimizer(network: LPDNet, config: TrainConfig, extra: Iterable[nn.Parameter] = ()) -> torch.optim.AdamW:
    """AdamW with a group each for prototypes, encoder and heads; ``initial_lr`` of a group is its full rate.

    Args:
        network: what is trained.
        config: its ``optimizer`` part.
        extra: parameters that only the losses use; they go with the heads.
    """
    settings = config.optimizer
    rate = settings.learning_rate
    prototypes = [p for p in network.prototype_parameters() if p.requires_grad]
    groups = [
        _group(prototypes, rate * settings.prototype_factor, settings.prototype_decay),
        *_split(network.encoder.parameters(), rate * settings.encoder_factor, settings.weight_decay),
        *_split([*network.head_parameters(), *extra], rate, settings.weight_decay),
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, fused=True)


def _split(parameters: Iterable[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    # Decay pulls towards zero, which is a neutral value for kernels but not for gains, norms and biases.
    trained = [p for p in parameters if p.requires_grad]
    return [
        _group([p for p in trained if p.ndim > 1], rate, decay),
        _group([p for p in trained if p.ndim <= 1], rate, 0.0),
    ]


def _group(parameters: list[nn.Parameter], rate: float, decay: float) -> dict[str, object]:
    return {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
