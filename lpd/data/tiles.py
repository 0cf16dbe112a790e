"""Tile sets in the BCSS-WSSS layout: image-level labels from file names, masks where there are any."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from lpd.classes import NOT_COMPUTED
from lpd.data.dataset_info import DatasetInfo, read_info
from lpd.errors import DatasetError

Pixels = npt.NDArray[np.uint8]

#: Both spellings in use; BCSS-WSSS itself says ``training``, ``val`` and ``test``.
SPLIT_FOLDERS = {"train": ("train", "training"), "valid": ("valid", "val"), "test": ("test",)}
#: Decoded tiles are kept in memory while they fit in this many bytes (BCSS-WSSS needs 3.3 GiB).
DEFAULT_CACHE_BYTES = 4 << 30

_DIGITS = re.compile(r"\[([01 ,]+)\]$")
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class TileFile:
    """One tile on disk; ``label`` has one bool per class and is None where only a mask tells."""

    image: Path
    mask: Path | None
    label: tuple[bool, ...] | None


class TileSet:
    """The tiles of one split, decoded once.

    Tiles are uint8 (H, W, 3) RGB, all of one square size. Masks are uint8 (H, W) in the values of the
    :class:`~lpd.classes.ClassScheme`: classes, then background, and 255 where nobody labelled.
    """

    def __init__(
        self, info: DatasetInfo, split: str, files: Sequence[TileFile], *, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        if not files:
            raise DatasetError(f"split {split!r} of {info.name!r} has no tiles: add PNG files")
        self.info = info
        self.split = split
        self.files = tuple(files)
        first = _read_rgb(self.files[0].image)
        self.tile_px = first.shape[0]
        if first.shape[0] != first.shape[1]:
            raise DatasetError(f"{self.files[0].image} is {first.shape[1]} × {first.shape[0]} px: tiles must be square")
        self._cache: dict[int, Pixels] | None = {} if first.nbytes * len(self.files) <= cache_bytes else None
        self._labels: npt.NDArray[np.bool_] | None = None

    @classmethod
    def open(cls, folder: Path, split: str, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> TileSet:
        """Open one split of a tile set.

        Args:
            folder: holds ``dataset.yaml`` and the split folders.
            split: ``train``, ``valid`` or ``test``.
            cache_bytes: upper bound of the memory for decoded tiles; 0 decodes anew each time.

        Raises:
            DatasetError: a file is missing, wrongly named or unreadable; the message names it.
        """
        info = read_info(folder)
        split_folder = find_split(folder, split)
        list_files = _labelled_tiles if split == "train" else _masked_tiles
        return cls(info, split, list_files(split_folder, info), cache_bytes=cache_bytes)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        """(N, C) bool: which classes each tile shows, from its file name or else its mask (one pixel is enough)."""
        if self._labels is None:
            self._labels = np.array([self._label(index) for index in range(len(self))], dtype=np.bool_)
        return self._labels

    def images(self, indices: Sequence[int]) -> Pixels:
        """(B, H, W, 3) uint8 RGB of the tiles asked for."""
        if len(indices) == 1 or (self._cache is not None and all(i in self._cache for i in indices)):
            return np.stack([self._image(i) for i in indices])
        with ThreadPoolExecutor(_THREADS) as threads:
            return np.stack(list(threads.map(self._image, indices)))

    def load(self) -> None:
        """Decode all tiles now, if they may stay in memory, so that one that cannot be read is known beforehand.

        Raises:
            DatasetError: a tile cannot be read, or is of another size than the first.
        """
        if self._cache is not None:
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(self._image, range(len(self))))

    def mask(self, index: int) -> Pixels:
        """(H, W) uint8 mask of one tile in the values of the class scheme.

        Raises:
            DatasetError: the tile has no mask, or its mask holds a value that is no class.
        """
        path = self.files[index].mask
        if path is None:
            raise DatasetError(
                f"{self.files[index].image} has no mask: split {self.split!r} carries image-level labels only"
            )
        mask = _read_mask(path, self.info)
        if mask.shape != (self.tile_px, self.tile_px):
            raise DatasetError(
                f"{path} is {mask.shape[1]} × {mask.shape[0]} px but its tile has {self.tile_px} × {self.tile_px}: "
                "cut both alike"
            )
        return mask

    def fingerprint(self) -> str:
        """16 hexadecimal digits over the names and sizes of tiles and masks, the same wherever the folder lies.

        Raises:
            DatasetError: a file is gone.
        """
        digest = hashlib.sha256()
        for path in (path for file in self.files for path in (file.image, file.mask) if path is not None):
            try:
                digest.update(f"{path.name}\t{path.stat().st_size}\n".encode())
            except OSError as error:
                raise DatasetError(f"{path} cannot be looked at ({error}): restore or remove it") from error
        return digest.hexdigest()[:16]

    def _image(self, index: int) -> Pixels:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        path = self.files[index].image
        image = _read_rgb(path)
        if image.shape[:2] != (self.tile_px, self.tile_px):
            size = f"{image.shape[1]} × {image.shape[0]}"
            raise DatasetError(
                f"{path} is {size} px but the first tile is {self.tile_px} × {self.tile_px}: cut all alike"
            )
        if self._cache is not None:
            self._cache[index] = image
        return image

    def _label(self, index: int) -> Sequence[bool]:
        label = self.files[index].label
        if label is not None:
            return label
        present = np.bincount(self.mask(index).ravel(), minlength=self.info.scheme.count)
        return [bool(present[c]) for c in range(self.info.scheme.count)]


def has_split(folder: Path, split: str) -> bool:
    """Whether a tile set has a folder for a split, under either spelling."""
    return any((folder / name).is_dir() for name in SPLIT_FOLDERS[split])


def find_split(folder: Path, split: str) -> Path:
    """Folder of a split under either spelling.

    Raises:
        DatasetError: the split is unknown or has no folder.
    """
    if split not in SPLIT_FOLDERS:
        raise DatasetError(f"there is no split {split!r}: choose one of {', '.join(SPLIT_FOLDERS)}")
    for name in SPLIT_FOLDERS[split]:
        if (folder / name).is_dir():
            return folder / name
    raise DatasetError(f"{folder} has no folder {' or '.join(SPLIT_FOLDERS[split])}: the {split} tiles belong there")


def parse_label(path: Path, class_count: int) -> tuple[bool, ...]:
    """Image-level label from a name such as ``slide-x0-y0[1001].png``: one digit a class.

    Spaces and commas between the digits do no harm, as in ``[1 0 0 1]``.

    Raises:
        DatasetError: the name has no such digits, or too many or too few.
    """
    digits = label_digits(path)
    if digits is None:
        raise DatasetError(
            f"{path} carries no label: end its name with one 0 or 1 a class, as in name[{'1' * class_count}].png"
        )
    if len(digits) != class_count:
        raise DatasetError(
            f"{path} has {len(digits)} label digits but the data set has {class_count} classes: rename it, or list "
            "all classes in dataset.yaml"
        )
    return tuple(d == "1" for d in digits)


def label_digits(path: Path) -> str | None:
    """The label's digits of a file name, however many they are; None without any label."""
    match = _DIGITS.search(path.stem)
    return None if match is None else re.sub("[ ,]", "", match.group(1))


def _labelled_tiles(folder: Path, info: DatasetInfo) -> list[TileFile]:
    return [TileFile(path, None, parse_label(path, info.scheme.count)) for path in _pngs(folder)]


def _masked_tiles(folder: Path, info: DatasetInfo) -> list[TileFile]:
    images, masks = folder / "img", folder / "mask"
    for needed in (images, masks):
        if not needed.is_dir():
            raise DatasetError(f"{needed} is missing: a split with masks keeps its tiles in img/ and mask/")
    files = []
    for image in _pngs(images):
        mask = masks / image.name
        if not mask.is_file():
            raise DatasetError(f"{image} has no mask: {mask} is missing")
        named = label_digits(image) is not None
        files.append(TileFile(image, mask, parse_label(image, info.scheme.count) if named else None))
    return files


def is_text(name: str) -> bool:
    """Whether a file name could be decoded, and so be written into a report."""
    return name.encode(errors="replace").decode() == name


def _pngs(folder: Path) -> list[Path]:
    """The PNG files of a folder.

    Raises:
        DatasetError: there are none, one is no file, or one has a name that no report could be written with.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    except OSError as error:
        raise DatasetError(f"{folder} cannot be listed ({error}): check the path and your rights") from error
    if not paths:
        raise DatasetError(f"{folder} has no PNG tiles: check the path, or that the download finished")
    for path in paths:
        if not path.is_file():
            raise DatasetError(f"{path} is a folder, or a link to a file that is not there: restore or remove it")
        if not is_text(path.name):
            raise DatasetError(f"{folder} holds a tile whose name is not UTF-8, {path.name!r}: rename it")
    return paths


def _read_rgb(path: Path) -> Pixels:
    return read_image(path, "RGB")


def _read_mask(path: Path, info: DatasetInfo) -> Pixels:
    # Palette and grey masks both store the class as the pixel value itself; RGB masks would need a palette.
    values = read_image(path, None)
    if values.ndim != 2:
        raise DatasetError(f"{path} is a colour image: masks must be palette or grey PNGs whose values are classes")
    table = np.full(256, 254, dtype=np.uint8)
    table[: info.scheme.count] = np.arange(info.scheme.count)
    table[info.background] = info.scheme.background
    table[info.ignore] = NOT_COMPUTED
    mask = table[values]
    if (mask == 254).any():
        wrong = int(values[mask == 254][0])
        raise DatasetError(
            f"{path} holds the value {wrong}: masks may hold 0 to {info.scheme.count - 1}, "
            f"{info.background} (background) and {info.ignore} (ignore)"
        )
    return mask


def _transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def read_image(path: Path, mode: str | None, *, most_px: int | None = None) -> Pixels:
    """Decode one image file.

    Args:
        path: an 8-bit image.
        mode: ``RGB`` for (H, W, 3), None for the values as stored; turned as the orientation tag says.
        most_px: larger images are refused before they are decoded.

    Returns:
        uint8 array.

    Raises:
        DatasetError: the file is no image, damaged, too large, transparent in places or has more than 8 bits a pixel.
    """
    try:
        with Image.open(path) as image:
            if most_px is not None and image.width * image.height > most_px:
                raise DatasetError(f"{path} is {image.width} × {image.height} px: too large for a tile")
            if image.mode.startswith(("I", "F")):  # converting would cut 16-bit values off at 255
                raise DatasetError(f"{path} has more than 8 bits a pixel ({image.mode}): save it as an 8-bit PNG")
            if mode is not None and _transparent(image):
                raise DatasetError(f"{path} is transparent in places, and nobody knows what is behind: flatten it")
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert(mode) if mode else upright, dtype=np.uint8)
    except DatasetError:
        raise
    except Exception as error:  # on damaged files a decoder may fail in any way
        raise DatasetError(f"{path} cannot be read as an image ({error}): replace or remove it") from error
