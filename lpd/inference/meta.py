"""ResultMeta: what a result says of itself — which slide, which model, which frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lpd
from lpd.classes import ClassScheme
from lpd.errors import LpdError, ResultError
from lpd.inference.frame import MaskFrame
from lpd.inference.place import Place
from lpd.slide.region import Region

#: Version of the ``lpd`` document inside ``result.zarr``; raised when a field changes its meaning.
FORMAT_VERSION = 1
#: Mask pixels per score cell, along each axis: the network's finest map has stride 4.
CELL_PX = 4
#: Settings that change no pixel, and those that say which of them are wanted.
_SPEED, _PLACE = ("batch_size", "threads", "reader_threads", "panel_px"), ("region", "polygons", "pieces")


@dataclass(frozen=True)
class ResultPart:
    """What one run, with those that went on where it ended, was asked for.

    Attributes:
        place: which part of the slide.
        began: UTC, ISO 8601.
        ended: when all of it was there; empty if it is not, or if an lpd of old wrote it, which did not say.
    """

    place: Place
    began: str
    ended: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        return {**self.place.to_dict(), "began": self.began, "ended": self.ended}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResultPart:
        """Rebuild from :meth:`to_dict`."""
        return cls(Place.from_dict(data), str(data["began"]), str(data["ended"]))


@dataclass(frozen=True)
class ResultMeta:
    """Frozen description of one result; the same until a further run adds a part to it.

    Attributes:
        slide_name: ``Slide.name``, the file name without its ending.
        slide_fingerprint: ``Slide.fingerprint``, which tells one file's bytes from another's.
        width_l0, height_l0: size of the slide in level-0 pixels.
        slide_mpp: µm per level-0 pixel.
        mask_mpp: µm per mask pixel; the resolution that the model was trained at.
        classes: names, colours and mask values.
        checkpoint_name: file stem of the checkpoint.
        checkpoint_digest: ``sha256:<hex>`` of the checkpoint file.
        notice: one line shown to people beside every result of this model; may be empty.
        region: a rectangle around all that was asked for, level-0 pixels; None for the whole slide.
        created: UTC, ISO 8601.
        settings: the segmentation settings as plain JSON values, those of the last part.
        backend: how the network was run, see :mod:`lpd.inference.runners`.
        made_by: version of lpd.
        origin_l0: ``Slide.origin_l0``: (x, y) of level-0 (0, 0) in the file's own frame.
        trials: what the choice of backend rests on, as plain JSON values, see :mod:`lpd.inference.choosing`.
        parts: what was asked for, in the order in which the runs began; one at least.
    """

    slide_name: str
    slide_fingerprint: str
    width_l0: int
    height_l0: int
    slide_mpp: float
    mask_mpp: float
    classes: ClassScheme
    checkpoint_name: str
    checkpoint_digest: str
    notice: str = ""
    region: Region | None = None
    created: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    made_by: str = lpd.__version__
    origin_l0: tuple[int, int] = (0, 0)
    trials: tuple[Mapping[str, Any], ...] = ()
    parts: tuple[ResultPart, ...] = ()

    def __post_init__(self) -> None:
        if self.width_l0 < 1 or self.height_l0 < 1:
            raise ResultError(f"slide {self.slide_name} has no pixels ({self.width_l0} x {self.height_l0})")
        if self.slide_mpp <= 0 or self.mask_mpp <= 0:
            raise ResultError(f"resolutions {self.slide_mpp} and {self.mask_mpp} µm/px must both be above 0")
        if not self.parts:
            object.__setattr__(self, "parts", (ResultPart(Place(self.region), self.created),))

    def same_work(self, other: ResultMeta) -> bool:
        """Whether a run for this result would give pixels the values that they have in the other.

        All but date, backend, speed and the places that were asked for agree.
        """
        nothing = dict.fromkeys(("created", "backend", "trials", "region", "parts"))
        mine, its = (
            {
                **r.to_dict(),
                **nothing,
                "settings": {**_complete(r.settings), **dict.fromkeys(_SPEED + _PLACE)},
            }
            for r in (self, other)
        )
        return mine == its

    @property
    def scale(self) -> float:
        """Level-0 pixels per mask pixel, along x and along y."""
        return self.mask_mpp / self.slide_mpp

    @property
    def frame(self) -> MaskFrame:
        """Conversion between level-0 and mask pixels."""
        return MaskFrame(self.width_l0, self.height_l0, self.scale)

    @property
    def mask_size(self) -> tuple[int, int]:
        """(width, height) of the mask in its own pixels; its last column and row may reach past the slide."""
        bounds = self.frame.bounds
        return bounds.width, bounds.height

    @property
    def score_size(self) -> tuple[int, int]:
        """(width, height) of the score maps in cells of 4 × 4 mask pixels."""
        width, height = self.mask_size
        return -(-width // CELL_PX), -(-height // CELL_PX)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`; says also its version and scale."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["classes"] = self.classes.to_dict()
        plain["region"] = dataclasses.asdict(self.region) if self.region else None
        plain["settings"] = dict(self.settings)
        plain["origin_l0"] = list(self.origin_l0)
        plain["trials"] = [dict(trial) for trial in self.trials]
        plain["parts"] = [part.to_dict() for part in self.parts]
        return {"version": FORMAT_VERSION, "scale": self.scale, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResultMeta:
        """Rebuild from :meth:`to_dict`.

        Raises:
            ResultError: the document is of another version, incomplete or malformed.
        """
        if data.get("version") != FORMAT_VERSION:
            raise ResultError(f"result format {data.get('version')!r} is not {FORMAT_VERSION}: segment the slide again")
        known = {"made_by": "", **{k: v for k, v in data.items() if k not in ("version", "scale")}}
        try:
            region = Region(**known["region"]) if known["region"] else None
            x, y = map(int, known.get("origin_l0", (0, 0)))
            classes = ClassScheme.from_dict(known["classes"])
            trials = tuple(map(dict, known.get("trials", ())))
            parts = tuple(map(ResultPart.from_dict, known.get("parts", ())))
            derived = {"classes": classes, "region": region, "origin_l0": (x, y), "trials": trials, "parts": parts}
            return cls(**{**known, **derived})
        except (KeyError, TypeError, ValueError, LpdError) as error:
            raise ResultError(f"result description is malformed ({error!r}): segment the slide again") from error


def _complete(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings with those that did not exist when they were written, as they are by default."""
    from lpd.inference.settings import SegmentSettings

    try:
        return SegmentSettings.from_dict(settings).to_dict()
    except LpdError:  # of another version altogether
        return settings
