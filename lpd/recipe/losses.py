"""Settings of the losses: what is added up, with which weights and how each is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lpd.config import Settings
from lpd.errors import ConfigError

T = TypeVar("T", bound=Settings)


def with_pairs(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """``options`` as (name, value) pairs, which a YAML file writes as a mapping."""
    options = data.get("options")
    return {**data, "options": list(options.items())} if isinstance(options, Mapping) else data


@dataclass(frozen=True)
class DiversityConfig(Settings):
    """L_div: the prototypes of a class should look at different parts of it.

    Attributes:
        weight: λ_div; 0 switches it off.
        temperature: τ of the attention over pixels.
        variant: ``jeffreys`` is the corrected loss; ``official`` repeats the faults of the authors' code (softmax
            taken twice, raw prototypes against the deepest map, classes off by one), for comparison.
    """

    weight: float = 0.5
    temperature: float = 0.07
    variant: Literal["jeffreys", "official"] = "jeffreys"

    _group = "losses.diversity."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"weight": (0, 1e6), "temperature": (1e-3, 1e3)})


@dataclass(frozen=True)
class SimilarityOptions(Settings):
    """How L_sim is computed.

    Attributes:
        pair_cap: most (image, prototype) pairs in a step, see ``lpd.losses.pairs.select_pairs``; 0 for all.
        masking: ``image``, as in the paper, masks the image and embeds what is left (two passes of the tower per pair);
            ``features`` averages the tower's deepest map over the masks (one pass per image).
        threshold: of a prototype's CAM, stretched to 0–1 within the image; in [0, 1].
        temperature: τ.
        cam_penalty: weight of the mean CAM.
        exclude_same_class: prototypes of the same class are no negatives; the official code has them.
        joint_threshold: the official code's masks, relative to the largest CAM of all prototypes; CAMs are raw
            logits then. Some masks are empty, and count as blank images.
    """

    pair_cap: int = 32
    masking: Literal["image", "features"] = "image"
    threshold: float = 0.5
    temperature: float = 0.07
    cam_penalty: float = 5e-4
    exclude_same_class: bool = True
    joint_threshold: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {"pair_cap": (0, 1e6), "threshold": (0, 1), "temperature": (1e-3, 1e3), "cam_penalty": (0, 1e6)}
        )


@dataclass(frozen=True)
class SimilarityConfig(SimilarityOptions):
    """L_sim: what a prototype marks should resemble it, to a frozen image tower, and the rest should not.

    Attributes:
        weight: λ_sim; it counts only with a tower.
        tower: ``off``; ``own``, the encoder as it was loaded; ``ema``, the encoder's moving average; ``timm``, another
            network from a file.
        name, weights, options: of a ``timm`` tower, as in :class:`EncoderConfig`.
        mean, std: per RGB channel in 0–1, what that tower was trained with; None for what timm records of it.
        random: let a ``timm`` tower be untrained, as the authors' one in effect is; recorded in the checkpoint.
    """

    weight: float = 0.1
    tower: Literal["off", "own", "ema", "timm"] = "off"
    name: str = ""
    weights: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    random: bool = False

    _group = "losses.similarity."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"weight": (0, 1e6)})
        if self.tower == "timm" and not (self.name and (self.weights or self.random)):
            raise ConfigError(
                "losses.similarity.tower timm needs losses.similarity.name and a local file in "
                "losses.similarity.weights: an untrained tower says nothing about tissue"
            )
        if (self.mean is None) != (self.std is None):
            raise ConfigError("losses.similarity.mean and losses.similarity.std go together: set both or none")

    @classmethod
    def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
        return super().from_dict(with_pairs(data))

    @property
    def active(self) -> bool:
        """Whether it takes part in the training."""
        return self.tower != "off" and self.weight > 0


@dataclass(frozen=True)
class PixelConfig(Settings):
    """L_pix: the classes that a tile's label names compete for each of its pixels; not in the paper.

    Attributes:
        weight: λ_pix; 0 switches it off.
    """

    weight: float = 0.0

    _group = "losses.pixels."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"weight": (0, 1e6)})


@dataclass(frozen=True)
class LossConfig(Settings):
    """``L = L_cls + λ_pix · L_pix + λ_sim · L_sim + λ_div · L_div``.

    Attributes:
        start: when L_sim and L_div join in: below 1 a share of the training, from 1 on a number of steps.
        pixels, similarity, diversity: settings of each.
    """

    start: float = 0.3
    pixels: PixelConfig = field(default_factory=PixelConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    diversity: DiversityConfig = field(default_factory=DiversityConfig)

    _group = "losses."

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"start": (0, 1e9)})

    def first_step(self, total: int) -> int:
        """Steps of ``total`` that are done before the two join in."""
        return int(self.start * total if self.start < 1 else self.start)
