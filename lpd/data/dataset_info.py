"""``dataset.yaml``: what the file names of a tile set cannot say (scale, classes, mask values, licence)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.errors import ConfigError, DatasetError

FILE_NAME = "dataset.yaml"
#: Licence of a set that says none.
NOT_STATED = "not stated"
# "phantom" records how a synthetic set was made; nothing is read from it.
_KEYS = {"name", "mpp", "classes", "background", "background_color", "ignore", "licence", "phantom"}


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a tile set.

    Attributes:
        name: for people.
        mpp: µm per pixel of every tile.
        scheme: the classes, in the order of the label digits and of the mask values.
        background: value that mask files use for background, 0–255.
        ignore: value that mask files use for pixels nobody labelled, 0–255.
        licence: one line, carried into every checkpoint trained on the set.
    """

    name: str
    mpp: float
    scheme: ClassScheme
    background: int
    ignore: int = NOT_COMPUTED
    licence: str = NOT_STATED

    def __post_init__(self) -> None:
        if not 0.01 <= self.mpp <= 100:
            raise DatasetError(f"data set {self.name!r} states {self.mpp} µm/px: mpp must lie between 0.01 and 100")
        for use, value in (("background", self.background), ("ignore", self.ignore)):
            if type(value) is not int or not 0 <= value <= 255:
                raise DatasetError(
                    f"data set {self.name!r} uses mask value {value!r} for {use}: give a whole number from 0 to 255"
                )
        special = {self.background, self.ignore}
        if len(special) < 2 or special & set(range(self.scheme.count)):
            raise DatasetError(
                f"data set {self.name!r} uses mask value {self.background} for background, {self.ignore} for ignore: "
                f"they must differ from each other and from the classes 0 to {self.scheme.count - 1}"
            )


def read_info(folder: Path) -> DatasetInfo:
    """Read ``dataset.yaml`` of a tile set.

    Raises:
        DatasetError: the file is missing, is not YAML, or lacks or contradicts something.
    """
    return build_info(read_entries(folder), folder)


def read_entries(folder: Path) -> dict[str, Any]:
    """The entries of ``dataset.yaml`` as they stand.

    Raises:
        DatasetError: the file is missing or is not YAML.
    """
    return _load(folder / FILE_NAME)


def build_info(data: Mapping[str, Any], folder: Path) -> DatasetInfo:
    """Facts from the entries of the ``dataset.yaml`` in ``folder``.

    Raises:
        DatasetError: an entry is unknown, lacks or contradicts something.
    """
    path = folder / FILE_NAME
    unknown = sorted(set(data) - _KEYS, key=str)
    if unknown:
        raise DatasetError(f"{path} has an unknown entry {unknown[0]!r}: it may hold {sorted(_KEYS)}")
    try:
        scheme = ClassScheme.from_dict(data)
        return DatasetInfo(
            name=str(data.get("name", folder.name)),
            mpp=float(data["mpp"]),
            scheme=scheme,
            background=data.get("background", scheme.background),
            ignore=data.get("ignore", NOT_COMPUTED),
            licence=str(data.get("licence", NOT_STATED)),
        )
    except KeyError as error:
        raise DatasetError(f"{path} lacks {error.args[0]!r}: add it") from error
    except (ConfigError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path} cannot be used: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path.parent} has no {path.name}: write one with name, mpp (µm/px of the tiles) and classes "
            "(a list of code, name and color in the order of the label digits)"
        ) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path} holds a {type(data).__name__}: it must be a list of 'key: value' entries")
    return data
