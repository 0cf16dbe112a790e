"""Inspection: what one model makes of one place, as arrays: its prototypes' maps, CAMs, gates, scores and mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lpd.classes import ClassScheme
from lpd.errors import ConfigError, ShapeError
from lpd.model.grouping import Groups
from lpd.slide.region import Region

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
_ARRAYS = ("maps", "class_maps", "gates", "scores", "mask")


@dataclass(frozen=True)
class InspectedPlace:
    """Where the picture is from.

    Attributes:
        name: of the slide, or of the image's file.
        mpp: µm per level-0 pixel of the slide, or per pixel of the image.
        region: level-0 pixels of the slide, or all of the image.
        whole: whether that is all of it.
    """

    name: str
    mpp: float
    region: Region
    whole: bool = False

    @property
    def width_um(self) -> float:
        """How wide the place is."""
        return self.region.width_l0 * self.mpp


@dataclass(frozen=True, eq=False)
class ScaleCam:
    """The CAMs of all classes at one scale of the network, in the unit of the inspection.

    Attributes:
        scale: 0 fine … 3 deep.
        stride_px: mask pixels per cell; of some encoders no whole number.
        values: (C, h_s, w_s), NaN where not computed.
    """

    scale: int
    stride_px: float
    values: Floats


@dataclass(frozen=True, eq=False)
class Inspection:
    """Everything that is shown of one model at one place.

    Maps lie over the mask: a cell is ``stride_px`` mask pixels wide, the first begins where mask and picture do, the
    last may reach beyond them. Where prototypes are compared by cosine, the values of maps are *fused cosines* in
    [-1, 1], ``Σ_s weight_s · g_s · cos_s / Σ_s weight_s · |g_s|`` with the gains and fusion weights of the checkpoint,
    and a scale's are cosines; those of a linear head (plain CAM) have no bound and are logits.

    Attributes:
        checkpoint: its name.
        place: what is shown.
        picture: (H, W, 3) uint8 RGB of the place, of any size.
        scheme: the model's classes.
        maps: (C, K, h, w) float32 of each prototype, NaN where not computed.
        class_maps: (C, h, w) float32, the classes' prototypes merged (and corrected for the slide's stain, where that
            was done): what pixels are decided by. A correction may lead beyond ±1.
        stride_px: mask pixels per cell of both.
        unit: ``cosine`` or ``logit``.
        gates: (C,) probability that the class is at the place; NaN where no window looked.
        scores: (C,) mean score of the class, 0 to 1, over the place's tissue; NaN without any.
        mask: (h_m, w_m) uint8 mask values.
        truth: (h_t, w_t) uint8 mask values of the true classes, of any size; None if nobody knows them.
        truth_scheme: whose values they are; the model's own if None.
        cams: of the scales that are known.
        names: of the prototypes, class-major; an empty one stands for class and number. May be empty altogether.
        muted: numbers of prototypes that gates, scores, CAMs and mask do without.
        merged: sets of prototypes that count as one in them, see :mod:`lpd.model.grouping`.
        notes: sentences that a reader must know.
    """

    checkpoint: str
    place: InspectedPlace
    picture: Pixels
    scheme: ClassScheme
    maps: Floats
    class_maps: Floats
    stride_px: int
    unit: Literal["cosine", "logit"]
    gates: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    mask: Pixels
    truth: Pixels | None = None
    truth_scheme: ClassScheme | None = None
    cams: tuple[ScaleCam, ...] = ()
    names: tuple[str, ...] = ()
    muted: frozenset[int] = frozenset()
    merged: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.picture.ndim != 3 or self.picture.shape[2] != 3 or self.picture.dtype != np.uint8:
            raise ShapeError(f"the picture is {self.picture.shape} {self.picture.dtype}, not (H, W, 3) uint8 RGB")
        if self.maps.ndim != 4 or self.maps.shape[0] != self.scheme.count:
            raise ShapeError(f"maps {self.maps.shape} are not (C, K, h, w) of {self.scheme.count} classes")
        count = self.maps.shape[0] * self.maps.shape[1]
        if self.names and len(self.names) != count:
            raise ConfigError(f"{len(self.names)} names for {count} prototypes: give one each, class by class")

    @property
    def per_class(self) -> int:
        """K, prototypes a class."""
        return int(self.maps.shape[1])

    def is_muted(self, class_index: int, k: int) -> bool:
        """Whether the class's ``k``-th prototype is muted."""
        return class_index * self.per_class + k in self.muted

    def label(self, class_index: int, k: int) -> str:
        """The prototype's name for people: its own, or the class's code and a number from 1."""
        name = self.names[class_index * self.per_class + k].strip() if self.names else ""
        return name or f"{self.scheme.codes[class_index]} {k + 1}"

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as plain arrays, for ``numpy.savez``.

        Returns:
            ``maps``, ``class_maps``, ``gates``, ``scores`` and ``mask`` as above, ``cam_0`` … of the scales that are
            known and ``truth`` if it is; ``classes`` (C,) codes, ``names`` (C, K), ``muted`` (C, K) bool; and single
            values: ``unit``, ``stride_px``, ``checkpoint``, ``place``, ``mpp`` and ``region`` (x, y, width, height).
        """
        classes, count, region = range(self.scheme.count), range(self.per_class), self.place.region
        found: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        found |= {f"cam_{cam.scale}": cam.values for cam in self.cams}
        if self.truth is not None:
            found["truth"] = self.truth
        found |= {
            "classes": self.scheme.codes,
            "names": [[self.label(c, k) for k in count] for c in classes],
            "muted": [[self.is_muted(c, k) for k in count] for c in classes],
            "unit": self.unit,
            "stride_px": self.stride_px,
            "checkpoint": self.checkpoint,
            "place": self.place.name,
            "mpp": self.place.mpp,
            "region": (region.x_l0, region.y_l0, region.width_l0, region.height_l0),
        }
        return {name: np.asarray(value) for name, value in found.items()}


def left_out(groups: Groups, count: int) -> frozenset[int]:
    """Prototypes of ``count`` that are in no group: muted ones."""
    return frozenset(range(count)) - {m for own in groups for group in own for m in group}


def joined(groups: Groups) -> tuple[tuple[int, ...], ...]:
    """Groups of more than one prototype: merged ones."""
    return tuple(group for own in groups for group in own if len(group) > 1)
