"""Every setting of a training, checked when made; the same object for library, command and app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError

#: Value of ``encoder_weights`` that asks for an untrained encoder; nothing else gives one.
FROM_SCRATCH = "none"


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How one network is trained.

    Attributes:
        encoder: ``mit_b0`` … ``mit_b5`` or any timm model name with multi-scale features.
        encoder_weights: path of a weights file, or ``none`` for an untrained encoder.
        timm_options: extra keyword arguments for ``timm.create_model`` as (name, value) pairs.
        mean, std: per RGB channel in 0–1, what the encoder was trained with.
        prototypes_per_class: K.
        prototype_dim: length of a prototype before the adapters.
        scales, scale_weights: encoder maps that get a CAM and their weight in L_cls.
        fusion_weights: weight of each scale in the pixel scores of the finished network; they sum to 1.
        epochs: passes over the training tiles.
        batch_size: tiles per step.
        learning_rate: AdamW, at its height.
        encoder_lr_factor, prototype_lr_factor: multiples of ``learning_rate`` for those two parameter groups.
        weight_decay: AdamW, for everything but prototypes, biases, gains and norms.
        warmup_steps: steps over which the learning rate rises; it falls linearly to 0 from there.
        frozen: name prefixes of encoder parameters that stay as loaded, for example ``("conv_stem", "blocks.0")``.
        freeze_norm: keep the encoder's batch-norm statistics as loaded; small batches spoil them.
        diversity_weight: λ_div; 0 switches L_div off.
        diversity_from: fraction of the training after which L_div joins in.
        ema_decay: the averaged weights that are saved follow the trained ones by 1 − this per step; 0 saves the last.
        gradient_clip: largest norm of the whole gradient; 0 for no limit.
        symmetries, stain, brightness: see :class:`lpd.data.transforms.AugmentConfig`.
        validate_every: epochs between two looks at the valid split; 0 looks only at the end.
        seed: of weights, sampling and augmentation.
    """

    encoder: str
    encoder_weights: str
    timm_options: tuple[tuple[str, Any], ...] = ()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    prototypes_per_class: int = 3
    prototype_dim: int = 512
    scales: tuple[int, ...] = (1, 2, 3)
    scale_weights: tuple[float, ...] = (0.1, 1.0, 1.0)
    fusion_weights: tuple[float, ...] = (0.3, 0.3, 0.4)
    epochs: int = 8
    batch_size: int = 10
    learning_rate: float = 1e-4
    encoder_lr_factor: float = 1.0
    prototype_lr_factor: float = 10.0
    weight_decay: float = 1e-3
    warmup_steps: int = 20
    frozen: tuple[str, ...] = ()
    freeze_norm: bool = True
    diversity_weight: float = 0.5
    diversity_from: float = 0.3
    ema_decay: float = 0.98
    gradient_clip: float = 5.0
    symmetries: bool = True
    stain: float = 0.15
    brightness: float = 0.05
    validate_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder_weights:
            raise ConfigError(
                f"name a weights file for encoder {self.encoder!r}, or '{FROM_SCRATCH}' to train it untrained"
            )
        self._check_bounds(_BOUNDS)
        for name in ("learning_rate", "prototype_lr_factor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)} must be above 0")
        for name in ("diversity_from", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must lie in 0 to 1 (below 1)")
        self._check_scales()
        self.input_spec(mpp=1.0)

    def _check_scales(self) -> None:
        if len(self.scale_weights) != len(self.scales) or len(self.fusion_weights) != len(self.scales):
            raise ConfigError(
                f"scale_weights {self.scale_weights} and fusion_weights {self.fusion_weights} must pair up with "
                f"scales {self.scales}"
            )
        if min(self.scale_weights) < 0 or max(self.scale_weights) == 0:
            raise ConfigError(f"scale_weights {self.scale_weights} must not be negative, and one must be above 0")
        if min(self.fusion_weights) < 0 or abs(sum(self.fusion_weights) - 1) > 1e-3:
            raise ConfigError(f"fusion_weights {self.fusion_weights} must be non-negative and sum to 1")

    def input_spec(self, mpp: float, tile_px: int = 224) -> InputSpec:
        """What the network will expect to be fed."""
        return InputSpec(mpp=mpp, tile_px=tile_px, mean=self.mean, std=self.std)


_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 1e6),
    "batch_size": (1, 65536),
    "encoder_lr_factor": (0, 1e6),
    "weight_decay": (0, 1e3),
    "warmup_steps": (0, 1e9),
    "diversity_weight": (0, 1e6),
    "gradient_clip": (0, 1e9),
    "validate_every": (0, 1e6),
    "seed": (0, 2**32 - 1),  # what NumPy and torch both take
}
