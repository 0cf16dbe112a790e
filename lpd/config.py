"""Frozen settings that travel: checked when made, plain JSON on disk, the same for library, CLI and tab."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lpd.classes import NOT_COMPUTED
from lpd.errors import ConfigError

T = TypeVar("T", bound="Settings")

# Far above what anybody needs, and low enough that a forged checkpoint cannot ask for all memory.
_MAX_TILE_PX = 4096
_MAX_PROTOTYPES_PER_CLASS = 100
_MAX_PROTOTYPE_DIM = 8192
_LARGEST = 3.4e38  # of float32, in which networks compute


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checked types, strict conversion from and to plain dictionaries.

    A class that is part of another says in ``_group`` what a person writes before its fields' names, such as ``loop.``.
    One with a ``__post_init__`` of its own calls this one first.

    Raises:
        ConfigError: a value is not of its field's type. A whole number may stand for a float, a bool for no number, and
            floats are finite.
    """

    _group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_types(type(self), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def _check_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        """Refuse a field outside of its lowest and highest value; None is no number and passes."""
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{self._group}{name} {value} must lie in {low:.12g} to {high:.12g}")

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON values (tuples become lists)."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
        """Build from a dictionary; lists become tuples.

        Raises:
            ConfigError: a key is unknown, a required one is missing, or a value is not of its field's type.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(map(str, data.keys() - known))
        if unknown:
            raise ConfigError(f"{cls.__name__} has no setting {unknown[0]!r}; it knows {sorted(known)}")
        kinds = get_type_hints(cls)
        values = {k: _nested(kinds[k], v) for k, v in data.items()}
        _check_types(cls, values)
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} is incomplete or malformed: {error}") from error


@dataclass(frozen=True)
class InputSpec(Settings):
    """What the network expects to be fed.

    Attributes:
        mpp: µm per pixel of the tiles it was trained on.
        tile_px: width and height of those tiles, a multiple of 32.
        mean, std: per RGB channel, of pixel values scaled to 0–1; the network sees ``(x / 255 - mean) / std``.
    """

    mpp: float
    tile_px: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.01 <= self.mpp <= 100:
            raise ConfigError(f"tile resolution {self.mpp} µm/px is not between 0.01 and 100: state it in µm per pixel")
        if not 32 <= self.tile_px <= _MAX_TILE_PX or self.tile_px % 32:
            raise ConfigError(
                f"tile size {self.tile_px} px is not a multiple of 32 from 32 to {_MAX_TILE_PX}: "
                "cut the tiles to such a size, for example 224"
            )
        if not all(0 <= v <= 1 for v in self.mean) or not all(0.001 <= v <= 1 for v in self.std):
            raise ConfigError(
                f"mean {self.mean} must lie in 0 to 1 and std {self.std} in 0.001 to 1: divide 8-bit values by 255"
            )


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of an LPD network; class names live in :class:`lpd.classes.ClassScheme`.

    Attributes:
        encoder: ``mit_b0`` … ``mit_b5`` or any timm model name with multi-scale features.
        class_count: C, foreground classes; 1–254.
        prototypes_per_class: K; 1–100.
        prototype_dim: length of a learnable prototype, before the adapters; 1–8192.
        scales: which of the encoder's four deepest maps (0 fine … 3 deep) get a CAM.
        scale_weights: w_s of L_cls for each of ``scales`` (paper: F2 .1, F3 1, F4 1); none negative.
        init_temperature: τ; logit gain g_s starts at 1 / τ; 0.001–1000.
        last_stride: stride of the deepest stage where the encoder allows it (paper: 1); 0 keeps the encoder's own.
        timm_options: extra keyword arguments for ``timm.create_model`` as (name, value) pairs.
        merge: how the logits of a class's K prototypes become one: their ``mean``, as in the paper, for which they all
            get the same gradient; or the ``union``, ``log mean exp``, which is high where any of them is.
        groups: for each class its groups of prototype numbers that count, each as the mean of its own, see
            :mod:`lpd.model.grouping`; () where nothing was edited: each prototype for itself.
        head: ``prototypes``; ``linear`` makes plain CAMs, ``w_c · f + b_c`` at each scale, to compare with: K is 1
            then, there are no adapters, and a class's direction w_c stands where a prototype would.
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
    merge: Literal["mean", "union"] = "mean"
    head: Literal["prototypes", "linear"] = "prototypes"
    groups: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {
                "class_count": (1, NOT_COMPUTED - 1),
                "prototypes_per_class": (1, _MAX_PROTOTYPES_PER_CLASS),
                "prototype_dim": (1, _MAX_PROTOTYPE_DIM),
                "init_temperature": (0.001, 1000),
            }
        )
        if not self.scales or len(self.scales) != len(self.scale_weights) or min(self.scale_weights) < 0:
            raise ConfigError(
                f"scales {self.scales} and scale_weights {self.scale_weights} must pair up, no weight being negative"
            )
        if sorted(set(self.scales)) != list(self.scales) or not set(self.scales) <= {0, 1, 2, 3}:
            raise ConfigError(f"scales {self.scales} must be rising and among 0, 1, 2, 3")
        if self.head == "linear" and self.prototypes_per_class != 1:
            raise ConfigError(f"a linear head has 1 direction per class, not {self.prototypes_per_class}: set it so")
        if self.groups:
            self._check_groups()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; without ``groups`` where nothing was edited, so that an lpd of old reads it too."""
        return {name: value for name, value in super().to_dict().items() if name != "groups" or value}

    def _check_groups(self) -> None:
        if self.head == "linear":
            raise ConfigError("a linear head has no prototypes to mute or merge: leave groups out")
        if len(self.groups) != self.class_count or not all(self.groups) or not all(map(all, self.groups)):
            raise ConfigError(f"groups {self.groups} must name one prototype at least for each of the classes")
        for c, own in enumerate(self.groups):
            numbers, first = [m for group in own for m in group], c * self.prototypes_per_class
            last = first + self.prototypes_per_class - 1
            if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(first, last + 1)):
                raise ConfigError(
                    f"groups {own} of class {c} must name prototypes {first} to {last}, each once at most"
                )

    @property
    def prototype_count(self) -> int:
        """M = C · K."""
        return self.class_count * self.prototypes_per_class


@dataclass(frozen=True)
class Calibration(Settings):
    """How raw logits become scores in [0, 1]: fitted once on image-level labels, the same for every tile.

    Pixel logit of class c: ``pixel_gain[c] * fused_logit + pixel_bias[c]``; its gate, the probability that the class is
    present in the neighbourhood: ``sigmoid(gate_gain[c] * mean_logit + gate_bias[c])``. The score is made of both, see
    :func:`lpd.model.label_sets.log_class_probabilities`.

    Attributes:
        fusion_weights: weight of each of the network's scales in the fused pixel logit; they sum to 1.
        pixel_gain, pixel_bias, gate_gain, gate_bias: one value per class; gains are above 0, or maps would be inverted.
    """

    fusion_weights: tuple[float, ...]
    pixel_gain: tuple[float, ...]
    pixel_bias: tuple[float, ...]
    gate_gain: tuple[float, ...]
    gate_bias: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = {len(self.pixel_gain), len(self.pixel_bias), len(self.gate_gain), len(self.gate_bias)}
        if len(lengths) != 1:
            raise ConfigError("calibration needs one pixel and one gate gain and bias per class")
        if not all(gain > 0 for gain in (*self.pixel_gain, *self.gate_gain)):
            raise ConfigError(
                f"pixel_gain {self.pixel_gain} and gate_gain {self.gate_gain} must be above 0: fit the calibration anew"
            )
        if abs(sum(self.fusion_weights) - 1) > 1e-3 or min(self.fusion_weights) < 0:
            raise ConfigError(f"fusion_weights {self.fusion_weights} must be non-negative and sum to 1")


def _check_types(cls: type[Settings], values: Mapping[str, Any]) -> None:
    kinds = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, kinds[name]):
            said = "is empty and" if value is None else reprlib.repr(value)
            raise ConfigError(f"{cls._group}{name} {said} must be {_in_words(kinds[name])}")


def _fits(value: Any, kind: Any) -> bool:
    parts = get_args(kind)
    if kind is Any:
        return True
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and _fit_all(value, parts)
    if kind is float:
        return _fits(value, int) or (isinstance(value, float) and abs(value) <= _LARGEST)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.maxsize
    return isinstance(value, kind)


def _fit_all(values: tuple[Any, ...], parts: tuple[Any, ...]) -> bool:
    if parts[-1] is Ellipsis:
        return all(_fits(value, parts[0]) for value in values)
    return len(values) == len(parts) and all(map(_fits, values, parts))


_WORDS = {float: "finite number", int: "whole number", str: "text", bool: "true or false"}


def _in_words(kind: Any) -> str:
    """A field's type as a person is told it."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("null" if part is type(None) else _in_words(part) for part in parts)
    if get_origin(kind) is tuple:
        many = "a list" if parts[-1] is Ellipsis else f"a list of {len(parts)}"
        return f"{many}, each {_in_words(parts[0])}"
    if isinstance(kind, type) and issubclass(kind, Settings):
        return "a group of settings"
    word = _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
    return word if kind in (str, bool) else f"a {word}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _nested(kind: Any, value: Any) -> Any:
    """Settings within settings are dictionaries on disk."""
    if isinstance(kind, type) and issubclass(kind, Settings) and isinstance(value, Mapping):
        return kind.from_dict(value)
    return _frozen(value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
