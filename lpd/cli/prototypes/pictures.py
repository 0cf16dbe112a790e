"""Pictures that prototypes are shown on: image files, or tiles of a data set, with their masks."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lpd.classes import ClassScheme
    from lpd.data.tiles import TileSet
    from lpd.model.header import CheckpointInfo

    Pixels = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_MOST_PX = 8192 * 8192


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture: (H, W, 3) uint8 RGB, its µm per pixel if known, and its true classes if known."""

    name: str
    pixels: Pixels
    mpp: float | None
    truth: Pixels | None = None
    truth_scheme: ClassScheme | None = None


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which pictures; ``--image`` itself differs."""
    parser.add_argument("--data", type=Path, metavar="TILES", help="tile set: a folder with dataset.yaml")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="of the tile set (default: valid)")
    parser.add_argument("--mpp", type=float, metavar="V", help="µm per pixel of images (default: the checkpoint's)")


def read_picture(path: Path, mpp: float | None) -> Shown:
    """Read one image file.

    Raises:
        ConfigError: it is a slide.
        DatasetError: it cannot be read.
    """
    from lpd.data.tiles import read_image
    from lpd.slide.endings import SLIDE_SUFFIXES

    if path.suffix.lower() in SLIDE_SUFFIXES - IMAGE_SUFFIXES:
        raise ConfigError(
            f"{path} is a slide: run lpd segment {path.name} --prototype-maps, then lpd prototypes figure --result"
        )
    return Shown(path.name, read_image(path, "RGB", most_px=_MOST_PX), mpp)


def read_truth(path: Path, shown: Shown, scheme: ClassScheme) -> Pixels:
    """Read the mask of a picture: 0 … C−1 classes, C background, 255 not labelled.

    Raises:
        DatasetError: it cannot be read, is of another size, or holds other values.
    """
    from lpd.classes import NOT_COMPUTED
    from lpd.data.tiles import read_image

    mask = read_image(path, None, most_px=_MOST_PX)
    if mask.ndim != 2 or mask.shape != shown.pixels.shape[:2]:
        raise DatasetError(f"{path} is not one value for each pixel of {shown.name}: give a grey or palette image")
    wrong = mask[(mask > scheme.background) & (mask != NOT_COMPUTED)]
    if wrong.size:
        raise DatasetError(
            f"{path} holds the value {wrong[0]}: masks may hold 0 to {scheme.count - 1} ({', '.join(scheme.codes)}), "
            f"{scheme.background} (background) and {NOT_COMPUTED} (not labelled)"
        )
    return mask


def open_tiles(args: argparse.Namespace) -> TileSet:
    """The tile set that was asked for."""
    from lpd.data.tiles import TileSet

    return TileSet.open(args.data, args.split or "valid", cache_bytes=0)


def tile_shown(tiles: TileSet, index: int) -> Shown:
    """A tile with its mask, where the split has some."""
    file = tiles.files[index]
    truth = tiles.mask(index) if file.mask is not None else None
    return Shown(file.image.name, tiles.images([index])[0], tiles.info.mpp, truth, tiles.info.scheme)


def find_tile(tiles: TileSet, name: str) -> int:
    """Number of a tile by its file's name, with or without ending.

    Raises:
        DatasetError: there is none.
    """
    for index, file in enumerate(tiles.files):
        if name in (file.image.name, file.image.stem):
            return index
    raise DatasetError(
        f"split {tiles.split!r} of {tiles.info.name!r} has no tile {name}: choose one of its {len(tiles)}, for example "
        f"{tiles.files[0].image.name}"
    )


def inspected(network: Any, info: Any, shown: Shown, mpp: float) -> Any:
    """What a network makes of a picture; ``mpp`` where the picture does not say."""
    from lpd.explain.inspecting_image import inspect_image

    return inspect_image(
        network,
        info,
        shown.pixels,
        mpp=shown.mpp or mpp,
        name=shown.name,
        truth=shown.truth,
        truth_scheme=shown.truth_scheme,
        names=prototype_names(info),
    )


def prototype_names(info: CheckpointInfo) -> list[str]:
    """What people call the checkpoint's prototypes, class-major; empty for those without a name."""
    from lpd.model.names import names_of

    names = names_of(info)
    if names.problem:
        print(f"lpd prototypes: {names.problem}", file=sys.stderr)
    found = names.by_number
    return [found[m].name if m in found else "" for m in range(info.model.prototype_count)]
