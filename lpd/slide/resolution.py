"""Resolution: µm per pixel of a slide, and where that figure comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lpd.errors import ConfigError

#: µm/px outside this range is no microscope's.
_RANGE = (0.01, 100.0)
#: A resolution tag coarser than this (µm/px; 1,270 dpi) speaks of print or screen (72, 96, 300 dpi), not of tissue.
_COARSEST_TAG = 20.0
#: x and y that differ by more than this factor are not a rounding difference but a wrong figure.
_ASPECT = 1.1

_CM_UM, _INCH_UM = 10_000.0, 25_400.0


@dataclass(frozen=True)
class Resolution:
    """µm per level-0 pixel.

    Attributes:
        value: µm/px, 0.01 to 100.
        origin: ``given``, ``slide properties``, ``TIFF resolution``, ``image resolution`` (PNG and JPEG) or
            ``objective power``.
    """

    value: float
    origin: str


def given_resolution(mpp: float) -> Resolution:
    """What a person states outranks the file.

    Raises:
        ConfigError: it is not between 0.01 and 100.
    """
    if not _RANGE[0] <= mpp <= _RANGE[1]:
        raise ConfigError(f"mpp {mpp} µm/px is not between {_RANGE[0]} and {_RANGE[1]:g}: a 20x scan is usually 0.5")
    return Resolution(float(mpp), "given")


def slide_resolution(properties: Mapping[str, str]) -> Resolution | None:
    """Resolution from OpenSlide's properties: mpp, else the TIFF tags, else 10 µm/px divided by the objective power."""
    found = None
    # For a generic TIFF OpenSlide's mpp is the resolution tag, which may be a mere print size.
    if properties.get("openslide.vendor") != "generic-tiff":
        found = _pair(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"), "slide properties")
    found = found or tag_resolution(
        properties.get("tiff.XResolution"), properties.get("tiff.YResolution"), properties.get("tiff.ResolutionUnit")
    )
    power = _number(properties.get("openslide.objective-power"))
    if found is None and power:
        found = _checked(10 / power, "objective power")
    return found


def tag_resolution(x: object, y: object, unit: object, origin: str = "TIFF resolution") -> Resolution | None:
    """Resolution from pixels per ``unit`` ("inch"/2 or "centimeter"/3); None for print sizes and absolute numbers."""
    unit_um = {"inch": _INCH_UM, "2": _INCH_UM, "centimeter": _CM_UM, "3": _CM_UM}.get(str(unit).lower())
    per_x, per_y = _number(x), _number(y)
    if unit_um is None or not per_x or not per_y:
        return None
    found = _pair(unit_um / per_x, unit_um / per_y, origin)
    return found if found and found.value <= _COARSEST_TAG else None


def _pair(x: object, y: object, origin: str) -> Resolution | None:
    first, second = _number(x), _number(y)
    first, second = first or second, second or first
    if not first or not second or max(first, second) > _ASPECT * min(first, second):
        return None
    return _checked((first + second) / 2, origin)


def _checked(value: float, origin: str) -> Resolution | None:
    return Resolution(value, origin) if _RANGE[0] <= value <= _RANGE[1] else None


def _number(value: object) -> float | None:
    """A positive finite number, None for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
