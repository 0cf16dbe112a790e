"""Frozen settings that travel: checked when made, plain JSON on disk, the same for library, CLI and tab."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lpd.errors import ConfigError

T = TypeVar("T", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """Base of all settings: strict conversion from and to plain dictionaries."""

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON values (tuples become lists)."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
        """Build from a dictionary; lists become tuples.

        Raises:
            ConfigError: a key is unknown or a required one is missing.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"{cls.__name__} has no setting {unknown[0]!r}; it knows {sorted(known)}")
        try:
            return cls(**{k: _frozen(v) for k, v in data.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} is incomplete or malformed: {error}") from error


@dataclass(frozen=True)
class InputSpec(Settings):
    """What the network expects to be fed.

    Attributes:
        mpp: µm per pixel of the tiles it was trained on.
        tile_px: width and height of those tiles.
        mean, std: per RGB channel, of pixel values scaled to 0–1; the network sees ``(x / 255 - mean) / std``.
    """

    mpp: float
    tile_px: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0.01 <= self.mpp <= 100:
            raise ConfigError(f"tile resolution {self.mpp} µm/px is not between 0.01 and 100")
        if self.tile_px < 32 or self.tile_px % 32:
            raise ConfigError(f"tile size {self.tile_px} px is not a positive multiple of 32")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean} and std {self.std} need three values each, std above 0")


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of an LPD network; class names live in :class:`lpd.classes.ClassScheme`.

    Attributes:
        encoder: ``mit_b0`` … ``mit_b5`` or any timm model name with multi-scale features.
        class_count: C, foreground classes.
        prototypes_per_class: K.
        prototype_dim: length of a learnable prototype, before the adapters.
        scales: which of the encoder's four deepest maps (0 fine … 3 deep) get a CAM.
        scale_weights: w_s of L_cls for each of ``scales`` (paper: F2 .1, F3 1, F4 1).
        init_temperature: τ; logit gain g_s starts at 1 / τ.
        last_stride: stride of the deepest stage where the encoder allows it (paper: 1); 0 keeps the encoder's own.
        timm_options: extra keyword arguments for ``timm.create_model`` as (name, value) pairs.
    """

    encoder: str
    class_count: int
    prototypes_per_class: int = 3
    prototype_dim: int = 512
    scales: tuple[int, ...] = (1, 2, 3)
    scale_weights: tuple[float, ...] = (0.1, 1.0, 1.0)
    init_temperature: float = 0.07
    last_stride: int = 1
    timm_options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.class_count < 1 or self.prototypes_per_class < 1 or self.prototype_dim < 1:
            raise ConfigError(
                f"class_count {self.class_count}, prototypes_per_class {self.prototypes_per_class} and "
                f"prototype_dim {self.prototype_dim} must each be at least 1"
            )
        if not self.scales or len(self.scales) != len(self.scale_weights):
            raise ConfigError(f"scales {self.scales} and scale_weights {self.scale_weights} must pair up")
        if sorted(set(self.scales)) != list(self.scales) or not set(self.scales) <= {0, 1, 2, 3}:
            raise ConfigError(f"scales {self.scales} must be rising and among 0, 1, 2, 3")
        if self.init_temperature <= 0:
            raise ConfigError(f"init_temperature {self.init_temperature} must be above 0")

    @property
    def prototype_count(self) -> int:
        """M = C · K."""
        return self.class_count * self.prototypes_per_class


@dataclass(frozen=True)
class Calibration(Settings):
    """How raw logits become scores in [0, 1]: fitted once on image-level labels, the same for every tile.

    Pixel score of class c: ``sigmoid(pixel_gain[c] * fused_logit + pixel_bias[c])``; gate (is the class present
    in the neighbourhood?): ``sigmoid(gate_gain[c] * mean_logit + gate_bias[c])``.

    Attributes:
        fusion_weights: weight of each of the network's scales in the fused pixel logit; they sum to 1.
        pixel_gain, pixel_bias, gate_gain, gate_bias: one value per class.
    """

    fusion_weights: tuple[float, ...]
    pixel_gain: tuple[float, ...]
    pixel_bias: tuple[float, ...]
    gate_gain: tuple[float, ...]
    gate_bias: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.pixel_gain), len(self.pixel_bias), len(self.gate_gain), len(self.gate_bias)}
        if len(lengths) != 1:
            raise ConfigError("calibration needs one pixel and one gate gain and bias per class")
        if abs(sum(self.fusion_weights) - 1) > 1e-3 or min(self.fusion_weights) < 0:
            raise ConfigError(f"fusion_weights {self.fusion_weights} must be non-negative and sum to 1")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
