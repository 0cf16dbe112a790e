"""Reads one tile and its mask into a small record; whatever is wrong with the files becomes part of the record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lpd.data.check.cases import case_of
from lpd.data.check.findings import WHITE_LEVEL, printable
from lpd.data.check.listing import TilePaths, name_in
from lpd.data.dataset_info import DatasetInfo
from lpd.data.tiles import Pixels, label_digits, read_image

#: Larger images are not decoded: eight threads stay below half a gigabyte.
MOST_PX = 4096 * 4096

Size = tuple[int, int]


@dataclass(frozen=True)
class MaskRecord:
    """What a mask holds.

    Attributes:
        file: name relative to the tile set.
        fault: why it cannot be read, or empty.
        size: (width, height), None if unreadable.
        pixels: C + 2 counts: each class, background, ignore.
        foreign: values that are none of these.
    """

    file: str
    fault: str = ""
    size: Size | None = None
    pixels: tuple[int, ...] = ()
    foreign: tuple[int, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether its pixels can be counted: it is readable and every value has a meaning."""
        return self.size is not None and not self.foreign


@dataclass(frozen=True)
class TileRecord:
    """What a tile is.

    Attributes:
        file: name relative to the tile set.
        digits: the label's digits as the name has them, None without any.
        named: the label of the name, None unless it has one digit a class.
        case: see :func:`~lpd.data.check.cases.case_of`.
        fault: why it cannot be read, or empty.
        size: (width, height), None if unreadable.
        digest: equal for tiles of equal decoded pixels only; empty if unreadable.
        white: share of white pixels.
        uniform: whether all pixels have one colour.
        mask: None in a split with image-level labels only, and where it is missing.
    """

    file: str
    digits: str | None
    named: tuple[bool, ...] | None
    case: str | None
    fault: str = ""
    size: Size | None = None
    digest: bytes = b""
    white: float = 0.0
    uniform: bool = False
    mask: MaskRecord | None = None

    @property
    def label(self) -> tuple[bool, ...] | None:
        """The label of the name, else of the mask (one pixel is enough, as for :class:`~lpd.data.tiles.TileSet`)."""
        if self.digits is not None or self.mask is None or not self.mask.usable:
            return self.named
        return tuple(n > 0 for n in self.mask.pixels[:-2])


def read_tile(folder: Path, paths: TilePaths, info: DatasetInfo) -> TileRecord:
    """Read one tile and its mask; never raises for what the files hold.

    Args:
        folder: the tile set, for names.
        paths: where tile and mask lie.
        info: the classes and mask values.
    """
    digits = label_digits(paths.image)
    named = None
    if digits is not None and len(digits) == info.scheme.count:
        named = tuple(d == "1" for d in digits)
    known = (name_in(folder, paths.image), digits, named, case_of(printable(paths.image.name)))
    mask = _read_mask(folder, paths.mask, info) if paths.mask else None
    pixels = _pixels(paths.image, "RGB")
    if isinstance(pixels, str):
        return TileRecord(*known, fault=pixels, mask=mask)
    darkest = np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return TileRecord(
        *known,
        size=(pixels.shape[1], pixels.shape[0]),
        digest=hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest(),
        white=float((darkest >= WHITE_LEVEL).mean()),
        uniform=bool((pixels == pixels[0, 0]).all()),
        mask=mask,
    )


def _read_mask(folder: Path, path: Path, info: DatasetInfo) -> MaskRecord:
    name = name_in(folder, path)
    values = _pixels(path, None)
    if isinstance(values, str):
        return MaskRecord(name, fault=values)
    if values.ndim != 2:
        return MaskRecord(name, fault="a colour image: masks must be palette or grey, their values are the classes")
    counts = np.bincount(values.ravel(), minlength=256)
    meant = [*range(info.scheme.count), info.background, info.ignore]
    return MaskRecord(
        name,
        size=(values.shape[1], values.shape[0]),
        pixels=tuple(int(counts[value]) for value in meant),
        foreign=tuple(int(value) for value in np.flatnonzero(counts) if value not in meant),
    )


def _pixels(path: Path, mode: str | None) -> Pixels | str:
    """The pixels, or why there are none."""
    try:
        if not path.is_file():  # a dangling link or folder; a pipe would block for ever
            return "not a file"
        return read_image(path, mode, most_px=MOST_PX)
    except Exception as error:  # a decoder may fail in any way on a damaged file, and the check must go on
        reason = str(error) or type(error).__name__
        return printable(reason.removeprefix(f"{path} ").replace(str(path), path.name))
