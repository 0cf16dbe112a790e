"""Finds the files of a tile set, and its description, without giving up where something is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lpd.classes import BCSS, ClassScheme, TissueClass
from lpd.data.check.findings import Finding, Item, findings_of, printable
from lpd.data.dataset_info import FILE_NAME, DatasetInfo, build_info, read_entries
from lpd.data.tiles import SPLIT_FOLDERS, is_text, label_digits
from lpd.errors import DatasetError

_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}  # file managers leave these; so do they names with a leading dot


@dataclass(frozen=True)
class TilePaths:
    """Where one tile lies, and its mask: None where it has none."""

    image: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The files of one split; ``masked`` tells a split with masks from one with labels only."""

    split: str
    folder: Path
    masked: bool
    tiles: tuple[TilePaths, ...]


def list_split(folder: Path, split: str) -> tuple[Listing, list[Finding]] | None:
    """The split's tiles under either spelling, or None if it has no folder."""
    found = [folder / name for name in SPLIT_FOLDERS[split] if (folder / name).is_dir()]
    if not found:
        return None
    here = found[0]
    findings = findings_of("two spellings", [Item(path.name) for path in found] if len(found) > 1 else [], split)
    if split == "train":
        images, more = _list_pngs(folder, here, split)
        return Listing(split, here, False, tuple(TilePaths(image) for image in images)), findings + more
    images, more = _list_pngs(folder, here / "img", split)
    masks, more_masks = _list_pngs(folder, here / "mask", split)
    by_name = {mask.name: mask for mask in masks}
    orphans = sorted(set(by_name) - {image.name for image in images})
    findings += more + more_masks
    findings += findings_of("orphan mask", [Item(name_in(folder, by_name[name])) for name in orphans], split)
    return Listing(split, here, True, tuple(TilePaths(i, by_name.get(i.name)) for i in images)), findings


def describe(folder: Path, listings: list[Listing]) -> tuple[DatasetInfo, float | None, list[Finding]]:
    """The set's description, its mpp if stated, and what is wrong with ``dataset.yaml``.

    Where that cannot be used, classes are taken from the most common number of label digits; four are BCSS's.
    """
    try:
        entries = read_entries(folder)
        findings = []
        if entries.get("mpp") is None:
            findings = findings_of("mpp missing", [Item(FILE_NAME)])
            return build_info({**entries, "mpp": 1.0}, folder), None, findings
        info = build_info(entries, folder)
        return info, info.mpp, findings
    except DatasetError as error:
        scheme = _guess(listings)
        detail = printable(str(error).replace(f"{folder / FILE_NAME} ", ""))
        item = Item(FILE_NAME, f"{detail}; assumed here: {' '.join(scheme.codes)}")
        info = DatasetInfo(printable(folder.resolve().name), 1.0, scheme, scheme.background)
        return info, None, findings_of("description", [item])


def name_in(folder: Path, path: Path) -> str:
    """A file's name for people and JSON: relative to the tile set, with forward slashes."""
    return printable(path.relative_to(folder).as_posix())


def _guess(listings: list[Listing]) -> ClassScheme:
    digits = (label_digits(tile.image) for listing in listings for tile in listing.tiles)
    lengths = Counter(len(d) for d in digits if d)
    count = lengths.most_common(1)[0][0] if lengths else BCSS.count
    if count == BCSS.count or count > 254:
        return BCSS
    return ClassScheme(tuple(TissueClass(f"C{i + 1}", f"Class {i + 1}", (0, 0, 0)) for i in range(count)))


def _list_pngs(root: Path, folder: Path, split: str) -> tuple[list[Path], list[Finding]]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        return [], findings_of(
            "no tiles", [Item(name_in(root, folder), printable(error.strerror or str(error)))], split
        )
    pngs = [path for path in paths if path.suffix.lower() == ".png"]
    others = findings_of("unread file", (Item(name_in(root, path)) for path in _unread(paths)), split)
    others += findings_of("file name", (Item(name_in(root, path)) for path in pngs if not is_text(path.name)), split)
    return pngs, others + findings_of("no tiles", [] if pngs else [Item(name_in(root, folder), "no .png files")], split)


def _unread(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        known = path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES
        if path.suffix.lower() != ".png" and not known and path.is_file():
            yield path
