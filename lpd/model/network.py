"""LPDNet: an encoder, prototypes, and cosine CAMs at several scales (arXiv 2512.05922); plain CAM for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lpd.config import ModelConfig
from lpd.errors import ConfigError, ShapeError
from lpd.model.cam import at_least_float32, pool_prototype_cams, prototype_cosines
from lpd.model.encoders import TIMM_REFUSALS, Encoder, build_encoder, reason
from lpd.model.quick_timm import unfilled

#: Spread of a new prototype's components:
PROTOTYPE_STD = 0.1  # small enough that ten times the encoder's learning rate turns a prototype within one training
_ADAPTER_STD = 0.02
_CLASSIFIER_STD = 0.01


@dataclass(frozen=True, eq=False)
class LPDOutput:
    """What one forward pass yields, by scale s (0 fine … 3 deep, those of ``ModelConfig.scales``).

    Attributes:
        prototype_cosines: (B, C * K, h_s, w_s) in [-1, 1]; a class's K prototypes are adjacent.
        prototype_logits: the same times the scale's gain g_s.
        class_logits: (B, C, h_s, w_s), each class's prototype logits merged.
        features: (B, D_s, h_s, w_s) encoder maps.
    """

    prototype_cosines: dict[int, Tensor]
    prototype_logits: dict[int, Tensor]
    class_logits: dict[int, Tensor]
    features: dict[int, Tensor]

    @property
    def deepest(self) -> int:
        """The deepest scale."""
        return max(self.class_logits)

    def part(self, index: int) -> LPDOutput:
        """The output for one of the images, as a batch of one."""
        own = slice(index, index + 1)
        maps = (self.prototype_cosines, self.prototype_logits, self.class_logits, self.features)
        return LPDOutput(*({scale: values[own] for scale, values in by_scale.items()} for by_scale in maps))

    def image_scores(self, scale: int) -> Tensor:
        """(B, C) class logits of the whole images at one scale: the mean over pixels that L_cls trains."""
        return self.class_logits[scale].mean((2, 3))


class LPDNet(nn.Module):
    """Cosine CAMs of learnable prototypes on an encoder's feature maps.

    ``L_s[b, m, y, x] = g_s · cos(F_s[b, :, y, x], A_s(p_m))`` with prototypes P (M, D), M = C · K class-major, one
    adapter ``A_s(p) = W2 · relu(W1 · p + b1) + b2`` (D → D / 2 → D_s) and one gain g_s (initially 1 / τ) per scale.
    With ``config.head`` ``linear`` the maps are ``L_s[b, c, y, x] = w_sc · F_s[b, :, y, x] + b_sc`` instead: plain CAM.
    A new network is random, its encoder too.

    Attributes:
        config: what it was built from.
        encoder: the feature extractor.
        prototypes: (M, D) parameter; a linear head has none.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Build a randomly initialised network.

        Raises:
            ConfigError: the encoder is unknown or cannot give the scales asked for.
        """
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        # Scales count from the deep end of the encoder, so that an encoder with fewer stages still has a scale 3.
        depths = {str(s): self.encoder.channels[s - 4] for s in config.scales}
        if config.head == "linear":
            self.classifiers = nn.ModuleDict({s: _classifier(depth, config.class_count) for s, depth in depths.items()})
            return
        self.prototypes = nn.Parameter(torch.randn(config.prototype_count, config.prototype_dim) * PROTOTYPE_STD)
        self.adapters = nn.ModuleDict({s: _adapter(config.prototype_dim, depth) for s, depth in depths.items()})
        self.gains = nn.ParameterDict(
            {str(s): nn.Parameter(torch.tensor(1 / config.init_temperature)) for s in config.scales}
        )

    def forward(self, images: Tensor) -> LPDOutput:
        """Compute the CAMs of normalised images.

        Args:
            images: (B, 3, H, W) floating, RGB, normalised as the checkpoint's input spec says.

        Raises:
            ShapeError: the images are not (B, 3, H, W) floating-point.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ShapeError(
                f"images are {tuple(images.shape)} {images.dtype}, not (B, 3, H, W) floating-point: "
                f"pass tiles through to_network_input first"
            )
        return self.from_maps(self.encoder(images))

    def from_maps(self, maps: Sequence[Tensor]) -> LPDOutput:
        """Compute the CAMs of what the encoder made of some images, for those who run the encoder in another way."""
        features = {s: maps[s - 4] for s in self.config.scales}
        adapted = self.adapted_prototypes()
        cosines = {s: prototype_cosines(features[s], adapted[s]) for s in self.config.scales}
        if self.config.head == "linear":
            classes = {s: at_least_float32(self.classifiers[str(s)](features[s])) for s in self.config.scales}
            return LPDOutput(cosines, classes, classes, features)
        logits = {s: cosines[s] * self.gains[str(s)] for s in self.config.scales}
        classes = {
            s: pool_prototype_cams(logits[s], self.config.prototypes_per_class, self.config.merge, self.config.groups)
            for s in self.config.scales
        }
        return LPDOutput(cosines, logits, classes, features)

    def adapted_prototypes(self) -> dict[int, Tensor]:
        """(M, D_s) prototypes by scale, in the space of that scale's features; fp32 even under autocast.

        A linear head's are its weight vectors.
        """
        if self.config.head == "linear":
            weights = {s: self.classifiers[str(s)].get_parameter("weight") for s in self.config.scales}
            return {s: weight.flatten(1) for s, weight in weights.items()}
        with torch.autocast(self.prototypes.device.type, enabled=False):
            prototypes = at_least_float32(self.prototypes)
            return {s: self.adapters[str(s)](prototypes) for s in self.config.scales}

    def prototype_parameters(self) -> list[nn.Parameter]:
        """What classes are compared with: train it at a multiple of the encoder's rate, or it stays put.

        The prototypes, or the classifiers of a linear head.
        """
        return list(self.classifiers.parameters()) if self.config.head == "linear" else [self.prototypes]

    def head_parameters(self) -> list[nn.Parameter]:
        """What is neither encoder nor prototype: adapters and gains."""
        return [] if self.config.head == "linear" else [*self.adapters.parameters(), *self.gains.parameters()]

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device


@torch.no_grad()
def check_tile_px(network: LPDNet, tile_px: int) -> None:
    """Show the network one blank tile, so that a size it cannot take is refused before any work is done.

    Weights, batch statistics, mode and random state stay as they were.

    Raises:
        ConfigError: the encoder refuses tiles of this size.
    """
    training = network.training
    try:
        network.eval()(torch.zeros(1, 3, tile_px, tile_px, device=network.device))
    except TIMM_REFUSALS as error:
        raise ConfigError(
            f"encoder {network.config.encoder} cannot take tiles of {tile_px} px ({reason(error)}): "
            "cut the tiles to another size, for example 224, or choose another encoder"
        ) from error
    finally:
        network.train(training)


def sees_any_size(config: ModelConfig, side_px: int) -> bool:
    """Whether such a network sees a picture alike in its tiles and in inputs of ``side_px``; tried without weights.

    False where the encoder has learnt positions for one size of input, or refuses this one.

    Raises:
        ConfigError: the encoder is unknown or cannot give the scales asked for.
    """
    with torch.device("meta"), unfilled():
        encoder = _encoder(config)
        if not encoder.works_by_place:
            try:
                encoder(torch.empty(1, 3, side_px, side_px))
            except (*TIMM_REFUSALS, NotImplementedError):
                return False
    return not encoder.knows_positions


def _encoder(config: ModelConfig) -> Encoder:
    return build_encoder(
        config.encoder, maps=4 - min(config.scales), last_stride=config.last_stride, options=config.timm_options
    )


def _classifier(feature_dim: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(feature_dim, classes, 1)
    nn.init.normal_(layer.weight, std=_CLASSIFIER_STD)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _adapter(prototype_dim: int, feature_dim: int) -> nn.Sequential:
    hidden = max(1, prototype_dim // 2)
    layers = nn.Sequential(nn.Linear(prototype_dim, hidden), nn.ReLU(), nn.Linear(hidden, feature_dim))
    for layer in (layers[0], layers[2]):
        assert isinstance(layer, nn.Linear)
        nn.init.trunc_normal_(layer.weight, std=_ADAPTER_STD)
        nn.init.zeros_(layer.bias)
    return layers
