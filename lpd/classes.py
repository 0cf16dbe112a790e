"""ClassScheme: the names, colours and mask values of a model's tissue classes, background last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError

Rgb = tuple[int, int, int]

#: Mask value of a pixel that no model has looked at yet. It is never a class.
NOT_COMPUTED = 255


@dataclass(frozen=True)
class TissueClass:
    """One foreground class.

    Attributes:
        code: short name used in file names and tables, for example ``TUM``; not ``background``, which tables use.
        name: name for people, for example ``Tumour``.
        color: (red, green, blue), each 0–255.
        qupath_name: the name QuPath knows the class by; ``name`` if empty.
    """

    code: str
    name: str
    color: Rgb
    qupath_name: str = ""

    def __post_init__(self) -> None:
        if not self.code.strip() or not self.name.strip():
            raise ConfigError(f"class {self.code!r} ({self.name!r}) needs both a code and a name")
        if self.code.strip().lower() == "background":
            raise ConfigError(f"class code {self.code!r} is what tables call background: choose another code")
        _check_color(self.color, self.code)


@dataclass(frozen=True)
class ClassScheme:
    """The foreground classes in mask order; mask value ``count`` is background, 255 is not computed."""

    classes: tuple[TissueClass, ...]
    background_color: Rgb = (255, 255, 255)

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= NOT_COMPUTED - 1:
            raise ConfigError(f"a class scheme needs 1 to 254 classes, not {len(self.classes)}")
        codes = [c.code for c in self.classes]
        if len(set(codes)) != len(codes):
            raise ConfigError(f"class codes must differ from one another: {codes}")
        _check_color(self.background_color, "background")

    @property
    def count(self) -> int:
        """Number of foreground classes, C."""
        return len(self.classes)

    @property
    def background(self) -> int:
        """Mask value of background: C, after all classes."""
        return len(self.classes)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(c.code for c in self.classes)

    def palette(self) -> npt.NDArray[np.uint8]:
        """(C + 1, 3) uint8 RGB colours by mask value, background last."""
        return np.array([*(c.color for c in self.classes), self.background_color], dtype=np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, read back by :meth:`from_dict`."""
        return {
            "classes": [
                {
                    "code": c.code,
                    "name": c.name,
                    "color": list(c.color),
                    "qupath_name": c.qupath_name,
                }
                for c in self.classes
            ],
            "background_color": list(self.background_color),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClassScheme:
        """Rebuild a scheme from :meth:`to_dict` or from the ``classes`` of a ``dataset.yaml``.

        Raises:
            ConfigError: an entry lacks its code, name or colour, or is malformed.
        """
        try:
            classes = tuple(
                TissueClass(
                    code=str(c["code"]),
                    name=str(c["name"]),
                    color=_rgb(c["color"]),
                    qupath_name=str(c.get("qupath_name", "")),
                )
                for c in data["classes"]
            )
            background = _rgb(data.get("background_color", (255, 255, 255)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"class list is malformed ({error!r}): give each code, name and color") from error
        return cls(classes, background)


def _rgb(value: Any) -> Rgb:
    if not isinstance(value, list | tuple) or any(type(v) is not int for v in value):
        raise TypeError(f"colour {value!r} is not a list of three whole numbers")
    red, green, blue = value
    return red, green, blue


def _check_color(color: Rgb, owner: str) -> None:
    if len(color) != 3 or not all(0 <= v <= 255 for v in color):
        raise ConfigError(f"colour {color} of class {owner} is not three numbers from 0 to 255")


#: Classes and field palette of BCSS-WSSS, with QuPath's own names.
BCSS = ClassScheme(
    (
        TissueClass("TUM", "Tumour", (255, 0, 0), "Tumor"),
        TissueClass("STR", "Stroma", (0, 255, 0), "Stroma"),
        TissueClass("LYM", "Lymphocytes", (0, 0, 255), "Immune cells"),
        TissueClass("NEC", "Necrosis", (153, 0, 255), "Necrosis"),
    )
)
