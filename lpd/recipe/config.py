"""Every setting of a training, checked when made; the same object for library, command and app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError
from lpd.recipe.losses import LossConfig, with_pairs

#: Value of ``encoder.weights`` that asks for an untrained encoder; nothing else gives one.
FROM_SCRATCH = "none"

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]

T = TypeVar("T", bound=Settings)


@dataclass(frozen=True)
class EncoderConfig(Settings):
    """Which feature extractor, and how much of it learns.

    Attributes:
        name: ``mit_b0`` … ``mit_b5`` or any timm model name with multi-scale features.
        weights: path of a weights file, or of an LPD checkpoint, whose encoder is taken; ``none`` for an untrained one.
        options: extra keyword arguments for ``timm.create_model`` as (name, value) pairs; a mapping in YAML.
        mean, std: per RGB channel in 0–1, what the encoder was trained with.
        last_stride: see :class:`lpd.config.ModelConfig`.
        frozen: name prefixes of parameters that stay as loaded, for example ``("conv_stem", "blocks.0")``.
        freeze_norm: keep batch-norm statistics as loaded; small batches spoil them.
    """

    name: str
    weights: str
    options: tuple[tuple[str, Any], ...] = ()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    last_stride: int = 1
    frozen: tuple[str, ...] = ()
    freeze_norm: bool = True

    _group = "encoder."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise ConfigError(
                f"name a weights file for encoder {self.name!r}, or '{FROM_SCRATCH}' to train it untrained"
            )

    @classmethod
    def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
        return super().from_dict(with_pairs(data))

    @property
    def pretrained(self) -> bool:
        """Whether it starts from a weights file."""
        return self.weights != FROM_SCRATCH


@dataclass(frozen=True)
class PrototypeConfig(Settings):
    """What the classes' maps are compared with.

    Attributes:
        source: ``learnable``; ``kmeans``, centroids of a bank that stay as they are; ``kmeans_init``, centroids that
            learn; ``linear``, no prototypes at all but one weight vector and bias a class and scale: plain CAM.
        bank: file written by ``lpd bank``, for the two clustered sources.
        per_class: K; 1 for ``linear``.
        dim: length of a prototype before the adapters; clustered ones bring their own.
        init_std: spread of a learnable prototype's components at the start.
    """

    source: Literal["learnable", "kmeans", "kmeans_init", "linear"] = "learnable"
    bank: str = ""
    per_class: int = 3
    dim: int = 512
    init_std: float = 0.1

    _group = "prototypes."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"init_std": (1e-6, 1e3), "per_class": (1, 100), "dim": (1, 8192)})
        if self.source == "linear" and self.per_class != 1:
            raise ConfigError("prototypes.source linear has one direction a class: set prototypes.per_class to 1")
        if self.clustered != bool(self.bank):
            raise ConfigError(
                f"prototypes.source {self.source} needs a bank: make one with lpd bank and name it in prototypes.bank"
                if self.clustered
                else f"prototypes.bank {self.bank!r} is of no use to source {self.source}: choose kmeans or kmeans_init"
            )

    @property
    def clustered(self) -> bool:
        """Whether they start as centroids of a bank."""
        return self.source in ("kmeans", "kmeans_init")


@dataclass(frozen=True)
class CamConfig(Settings):
    """Where maps are made, and what the finished network makes of them.

    Attributes:
        scales: which of the encoder's four deepest maps (0 fine … 3 deep) get a CAM.
        loss_weights: of each scale in L_cls and L_div.
        fusion_weights: of each scale in the pixel scores of the finished network; they sum to 1.
        temperature: τ; the gain of each scale starts at 1 / τ.
        merge: how the maps of a class's K prototypes become one, see :class:`lpd.config.ModelConfig`.
    """

    scales: tuple[int, ...] = (1, 2, 3)
    loss_weights: tuple[float, ...] = (0.1, 1.0, 1.0)
    fusion_weights: tuple[float, ...] = (0.3, 0.3, 0.4)
    temperature: float = 0.07
    merge: Literal["mean", "union"] = "mean"

    _group = "cam."

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.loss_weights) != len(self.scales) or len(self.fusion_weights) != len(self.scales):
            raise ConfigError(
                f"cam.loss_weights {self.loss_weights} and cam.fusion_weights {self.fusion_weights} must pair up with "
                f"cam.scales {self.scales}"
            )
        if not self.scales or sorted(set(self.scales)) != list(self.scales) or not set(self.scales) <= {0, 1, 2, 3}:
            raise ConfigError(f"cam.scales {self.scales} must be rising and among 0, 1, 2, 3")
        if min(self.loss_weights) < 0 or max(self.loss_weights) == 0:
            raise ConfigError(f"cam.loss_weights {self.loss_weights} must not be negative, and one must be above 0")
        if min(self.fusion_weights) < 0 or abs(sum(self.fusion_weights) - 1) > 1e-3:
            raise ConfigError(f"cam.fusion_weights {self.fusion_weights} must be non-negative and sum to 1")


@dataclass(frozen=True)
class OptimizerConfig(Settings):
    """AdamW and what goes with it.

    Attributes:
        epochs: passes over the training tiles.
        batch_size: tiles a step, over all processes together.
        learning_rate: at its height.
        encoder_factor, prototype_factor: multiples of it for those two groups of parameters.
        weight_decay: for everything but prototypes, biases, gains and norms.
        prototype_decay: for prototypes.
        warmup_steps: steps over which the rate rises; it falls to 0 from there.
        power: of the fall; 1 is linear.
        gradient_clip: largest norm of the whole gradient; 0 for no limit.
        ema_decay: the averaged weights that are saved follow the trained ones by 1 − this a step; 0 saves the last.
    """

    epochs: int = 8
    batch_size: int = 10
    learning_rate: float = 1e-4
    encoder_factor: float = 1.0
    prototype_factor: float = 10.0
    weight_decay: float = 1e-3
    prototype_decay: float = 0.0
    warmup_steps: int = 20
    power: float = 1.0
    gradient_clip: float = 5.0
    ema_decay: float = 0.98

    _group = "optimizer."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {
                "epochs": (1, 1e6),
                "batch_size": (1, 65536),
                "encoder_factor": (0, 1e6),
                "weight_decay": (0, 1e3),
                "prototype_decay": (0, 1e3),
                "warmup_steps": (0, 1e9),
                "power": (0, 100),
                "gradient_clip": (0, 1e9),
            }
        )
        for name in ("learning_rate", "prototype_factor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"optimizer.{name} {getattr(self, name)} must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay {self.ema_decay} must lie in 0 to 1 (below 1)")


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """How strongly training tiles are varied; 0 or False switches a part off.

    Attributes:
        symmetries: flips and quarter turns, each of the eight equally likely.
        stain: largest relative change of each stain's concentration.
        brightness: largest change of optical density added to every channel alike.
    """

    symmetries: bool = True
    stain: float = 0.15
    brightness: float = 0.05

    _group = "augment."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.stain < 1 or not 0 <= self.brightness < 1:
            raise ConfigError(
                f"augment.stain {self.stain} and augment.brightness {self.brightness} must lie in 0 to 1 (below 1)"
            )


@dataclass(frozen=True)
class LoopConfig(Settings):
    """How the loop runs; all but the seed changes speed and what is left to look at, not the method.

    Attributes:
        seed: of weights, order and augmentation.
        precision: ``bf16`` or ``fp16`` run the network in half precision (losses stay in fp32), ``fp16`` with a scaled
            gradient; ``auto`` is bf16 where the device has instructions for it and ``fp32`` elsewhere. The run folder
            and the checkpoints state which it was.
        compile: let ``torch.compile`` translate the network first, which takes minutes and pays on long trainings.
        validate_every: epochs between two looks at the valid split; 0 looks only at the end.
        previews: valid tiles in the picture drawn at each look, a third of them the best and a third the worst of that
            look; 0 draws none.
        tensorboard: write event files too.
    """

    seed: int = 0
    precision: Precision = "auto"
    compile: bool = False
    validate_every: int = 0
    previews: int = 6
    tensorboard: bool = True

    _group = "loop."

    def __post_init__(self) -> None:
        super().__post_init__()
        # NumPy and torch both take seeds up to 32 bits.
        self._check_bounds({"seed": (0, 2**32 - 1), "validate_every": (0, 1e6), "previews": (0, 64)})


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How one network is trained; each part has a class of its own."""

    encoder: EncoderConfig
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prototypes.source == "linear" and self.losses.similarity.active:
            raise ConfigError("plain CAM (prototypes.source linear) has no prototypes: set losses.similarity.tower off")
        if self.losses.similarity.tower == "own" and not self.encoder.pretrained:
            raise ConfigError(
                "losses.similarity.tower own would be the untrained encoder, which says nothing about tissue: "
                "name a weights file in encoder.weights, or choose ema or off"
            )
        self.input_spec(mpp=1.0)

    def input_spec(self, mpp: float, tile_px: int = 224) -> InputSpec:
        """What the network will expect to be fed."""
        return InputSpec(mpp=mpp, tile_px=tile_px, mean=self.encoder.mean, std=self.encoder.std)
