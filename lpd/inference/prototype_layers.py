"""PrototypeMaps: which maps of prototypes a result keeps, and how their bytes are read. Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lpd.classes import NOT_COMPUTED
from lpd.config import Calibration
from lpd.errors import LpdError, ResultError
from lpd.model.grouping import Groups, ungrouped

Bytes = npt.NDArray[np.uint8]
#: Versions of the ``lpd`` document of the group ``prototypes``; raised when a field changes its meaning. The second
#: says which prototypes were muted or merged in the checkpoint, and is written only where some were.
FORMAT_VERSION, _EDITED_VERSION = 1, 2
#: Steps of the 8-bit code to either side of 0: bytes 0, 127 and 254 are −limit, 0 and limit.
CODE_STEPS = 127
#: Plain CAMs have no bound, cosines have. They are log-odds: one beyond ±32 is stored as ±32.
LINEAR_LIMIT = 32.0


@dataclass(frozen=True)
class MapLayer:
    """One set of maps, a group of its own: a channel for each prototype, or for each class.

    Attributes:
        name: of the group.
        kind: ``pixel``: the prototypes' logits that pixels are decided by; ``gate``: those of the deepest scale, whose
            mean over a tile is the gate; ``correction``: what the slide's own prototypes add to each class.
        channels: M prototypes, class-major, or C classes.
        stride_px: mask pixels per map pixel, 4, 8, 16 or 32.
        limit: no logit is beyond ±limit; byte b stands for ``gain · b + offset``.
        scale: the network's scale that the logits are of; None where scales are fused.
        weight: a prototype's logit is the sum of the pixel layers, each times its weight.
    """

    name: str
    kind: Literal["pixel", "gate", "correction"]
    channels: int
    stride_px: int
    limit: float
    scale: int | None = None
    weight: float = 1.0

    @property
    def gain(self) -> float:
        """Logits per step of a byte."""
        return self.limit / CODE_STEPS

    @property
    def offset(self) -> float:
        """Logit of the byte 0."""
        return -self.limit

    def logits(self, stored: Bytes) -> npt.NDArray[np.float32]:
        """What bytes stand for; NaN where nothing was computed."""
        values = np.float32(self.gain) * stored.astype(np.float32) + np.float32(self.offset)
        return np.where(stored == NOT_COMPUTED, np.float32(np.nan), values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, gain and offset included."""
        return {**dataclasses.asdict(self), "gain": self.gain, "offset": self.offset}


@dataclass(frozen=True)
class PrototypeMaps:
    """All layers of a result, and what the mask is made of them with.

    Attributes:
        per_class: K; prototype m belongs to class m // K.
        merge: how a class's prototypes become one, see :func:`lpd.model.cam.pool_prototype_cams`.
        calibration: how logits become scores.
        gate_reach: cells of 4 px to each side that a pixel's gate is the mean of.
        layers: pixel layers first; they have one stride where scales are fused.
        edited: the checkpoint's groups, () if none of its prototypes were muted or merged.
        cosines: of each class how alike the directions of its prototypes are, mean over pairs of those that count, at
            the deepest scale; None where there are no pairs. () in results of versions that did not keep it.
    """

    per_class: int
    merge: Literal["mean", "union"]
    calibration: Calibration
    gate_reach: int
    layers: tuple[MapLayer, ...]
    edited: Groups = ()
    cosines: tuple[float | None, ...] = ()

    @property
    def groups(self) -> Groups:
        """Which prototypes count, by class, and which of them as one."""
        return self.edited or ungrouped(self.count // self.per_class, self.per_class)

    @property
    def count(self) -> int:
        """M, the number of prototypes."""
        return self.layers[0].channels

    @property
    def pixel_layers(self) -> tuple[MapLayer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == "pixel")

    @property
    def finest(self) -> MapLayer:
        """The pixel layer with the smallest stride: the resolution of a prototype's map."""
        return min(self.pixel_layers, key=lambda layer: layer.stride_px)

    @property
    def limit(self) -> float:
        """No prototype's logit is beyond ±limit: the code of :meth:`ResultStore.read_prototype`."""
        return sum(layer.weight * layer.limit for layer in self.pixel_layers)

    @property
    def is_linear(self) -> bool:
        """Whether they are those of a linear head: logits without bound, of which only ±32 are kept."""
        return self.per_class == 1 and all(layer.limit == LINEAR_LIMIT for layer in self.pixel_layers)

    def layer(self, kind: str) -> MapLayer | None:
        """The first layer of a kind."""
        return next((layer for layer in self.layers if layer.kind == kind), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        layers = [layer.to_dict() for layer in self.layers]
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        version = _EDITED_VERSION if self.edited else FORMAT_VERSION
        return {"version": version, **plain, "calibration": self.calibration.to_dict(), "layers": layers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PrototypeMaps:
        """Rebuild from :meth:`to_dict`.

        Raises:
            ResultError: the document is of another version, incomplete or malformed.
        """
        if data.get("version") not in (FORMAT_VERSION, _EDITED_VERSION):
            raise ResultError(f"prototype maps of format {data.get('version')!r}, not {_EDITED_VERSION} or older")
        names = [f.name for f in dataclasses.fields(MapLayer)]
        try:
            return cls(
                per_class=int(data["per_class"]),
                merge=data["merge"],
                calibration=Calibration.from_dict(data["calibration"]),
                gate_reach=int(data["gate_reach"]),
                layers=tuple(MapLayer(**{name: layer[name] for name in names}) for layer in data["layers"]),
                edited=tuple(tuple(tuple(group) for group in own) for own in data.get("edited", ())),
                cosines=tuple(None if c is None else float(c) for c in data.get("cosines", ())),
            )
        except (KeyError, TypeError, ValueError, LpdError) as error:
            raise ResultError(f"the description of prototype maps is malformed ({error!r})") from error


def code(logits: npt.NDArray[np.float32], limit: float) -> Bytes:
    """Logits as bytes, rounded to nearest; 255 where they are NaN."""
    steps = np.rint(np.clip(logits / limit, -1, 1) * CODE_STEPS) + CODE_STEPS
    return np.where(np.isnan(steps), NOT_COMPUTED, steps).astype(np.uint8)
