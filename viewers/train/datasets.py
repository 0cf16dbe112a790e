"""Data sets of one folder: opaque ids, what each says of itself, its tiles by class."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.data.dataset_info import FILE_NAME, DatasetInfo, read_info
from lpd.data.tiles import SPLIT_FOLDERS, TileFile, TileSet, find_split, has_split
from lpd.errors import DatasetError, LpdError
from viewers.checkpoints import describe_classes
from viewers.errors import NotFoundError

_DEPTH = 2  # folders below the data folder
#: Tiles are listed anew when their folder has changed; so many listings are kept.
_KEPT = 32


@dataclass(frozen=True)
class DataSet:
    """A folder of tiles; ``relative`` is its path below the data folder, with ``/`` between parts."""

    id: str
    path: Path
    relative: str


class DataSets:
    """The data sets below ``folder``, which need not exist; nothing outside of it can be reached through an id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._listings: dict[tuple[str, str, tuple[int, ...]], TileSet] = {}
        self._guard = threading.Lock()

    def all(self) -> list[DataSet]:
        """Sorted by path; found anew at each call. Hidden folders and links to folders are left out."""
        found = [_data_set(self.folder, path) for path in _walk(self.folder, _DEPTH)]
        return sorted(found, key=lambda data: data.relative.lower())

    def get(self, data_id: str) -> DataSet:
        """The data set of an id.

        Raises:
            NotFoundError: there is none.
        """
        for data in self.all():
            if data.id == data_id:
                return data
        raise NotFoundError(f"there is no data set {data_id[:40]!r} any more: reload the page")

    def tiles(self, data: DataSet, split: str) -> TileSet:
        """The tiles of a split, their pictures read when they are asked for.

        Raises:
            NotFoundError: it has no such split.
            DatasetError: a file is missing or wrongly named.
        """
        if split not in SPLIT_FOLDERS or not has_split(data.path, split):
            raise NotFoundError(f"{data.relative} has no {split[:20]} tiles")
        key = (data.id, split, _changed(data.path, find_split(data.path, split)))
        with self._guard:
            if key not in self._listings:
                if len(self._listings) >= _KEPT:
                    self._listings.clear()
                self._listings[key] = TileSet.open(data.path, split, cache_bytes=0)
            return self._listings[key]

    def version(self, data: DataSet) -> str:
        """Another word when training tiles have come or gone, by which their numbers mean others.

        Raises:
            LpdError: there are none.
        """
        return "-".join(map(str, _changed(data.path, find_split(data.path, "train"))))

    def samples(self, data: DataSet, per_class: int, seed: int) -> dict[str, list[int]]:
        """By class code, the numbers of some training tiles drawn at random; those of one class alone come first."""
        tiles, rng = self.tiles(data, "train"), random.Random(seed)
        drawn = {}
        for c, code in enumerate(tiles.info.scheme.codes):
            numbers = [i for i, label in enumerate(tiles.labels) if label[c]]
            rng.shuffle(numbers)
            drawn[code] = sorted(numbers, key=lambda i: int(tiles.labels[i].sum()))[:per_class]
        return drawn


def describe(data: DataSet) -> dict[str, Any]:
    """A data set as plain JSON; what hinders a training is said as ``error``. Files are counted, none is opened."""
    said: dict[str, Any] = {"id": data.id, "name": data.relative, "splits": _counts(data.path)}
    try:
        info = read_info(data.path)
    except DatasetError as error:
        return said | {"error": str(error).replace(str(data.path), data.relative)}
    return said | _facts(info)


def _facts(info: DatasetInfo) -> dict[str, Any]:
    classes = describe_classes(info.scheme)[:-1]
    return {"title": info.name, "mpp": info.mpp, "licence": info.licence, "classes": classes}


def label_counts(tiles: TileSet) -> dict[str, Any]:
    """How many tiles of a split show each class, and how many classes a tile shows."""
    counts = tiles.labels.sum(0)
    per_tile = tiles.labels.sum(1)
    return {
        "tiles": len(tiles),
        "tile_px": tiles.tile_px,
        "classes": {code: int(n) for code, n in zip(tiles.info.scheme.codes, counts, strict=True)},
        "none": int((per_tile == 0).sum()),
        "several": int((per_tile > 1).sum()),
    }


def tile_file(tiles: TileSet, number: int) -> TileFile:
    """
    Raises:
        NotFoundError: there is no such tile.
    """
    if not 0 <= number < len(tiles):
        raise NotFoundError(f"there is no tile {number} among {len(tiles)}: the tiles have changed, so reload the page")
    return tiles.files[number]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as listing:
            inner = [e.name for e in listing if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:  # not there, or not to be looked into
        return
    for name in inner:
        path = folder / name
        if (path / FILE_NAME).is_file() or has_split(path, "train"):
            yield path
        elif depth > 1:
            yield from _walk(path, depth - 1)


def _data_set(folder: Path, path: Path) -> DataSet:
    relative = path.relative_to(folder).as_posix()
    return DataSet(hashlib.sha256(os.fsencode(relative)).hexdigest()[:16], path, _readable(relative))


def _readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _counts(folder: Path) -> dict[str, int]:
    """Numbers of PNG files by split."""
    counts = {}
    for split in SPLIT_FOLDERS:
        if has_split(folder, split):
            place = find_split(folder, split)
            inner = place if split == "train" else place / "img"
            counts[split] = _pngs(inner)
    return counts


def _pngs(folder: Path) -> int:
    try:
        with os.scandir(folder) as listing:
            return sum(entry.name.lower().endswith(".png") for entry in listing)
    except OSError:
        return 0


def _changed(folder: Path, split: Path) -> tuple[int, ...]:
    """When what a listing is made of was changed last: the description, the split, its pictures and masks."""
    try:
        first = split.stat().st_mtime_ns
    except OSError as error:
        raise LpdError(f"{split.name} cannot be looked at ({error.strerror}): reload the page") from error
    others = [folder / FILE_NAME, split / "img", split / "mask"]
    return (first, *(path.stat().st_mtime_ns if path.exists() else 0 for path in others))
