"""Results that ``lpd prototypes`` reads, and the slides that they are of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lpd.errors import CheckpointError, LpdError

if TYPE_CHECKING:
    from lpd.inference.store import ResultStore
    from lpd.slide.slide import Slide


def open_result(folder: Path) -> ResultStore:
    """A result; says so if it is a part of one only.

    Raises:
        ResultError: there is none.
    """
    from lpd.inference.store import ResultStore

    store = ResultStore.open(folder)
    if not store.changes().complete:
        print(f"lpd prototypes: {folder} is not complete: this is of a part of it only", file=sys.stderr)
    return store


def names_of_result(store: ResultStore) -> list[str]:
    """What people call the prototypes, class-major, empty for those without a name; [] unless the very checkpoint is
    where it was."""
    from lpd.cli.prototypes.pictures import prototype_names
    from lpd.inference.manifest_file import read_manifest
    from lpd.model.header import file_digest, read_info

    path = Path(read_manifest(store.folder).get("arguments", {}).get("checkpoint") or "")
    try:
        if path.is_file() and file_digest(path) == store.meta.checkpoint_digest:
            return prototype_names(read_info(path))
    except CheckpointError:
        pass
    return []


def open_slide_of(store: ResultStore, folder: Path | None) -> Slide | None:
    """The slide that a result is of, from where it was segmented, or from somewhere below ``folder``; None if neither
    has the very same file in a readable state."""
    from lpd.inference.manifest_file import read_manifest
    from lpd.slide.opening import open_slide

    path = read_manifest(store.folder).get("slide", {}).get("path", "")
    candidates = [Path(path)] if path else []
    if folder is not None:
        candidates += sorted(p for p in folder.rglob("*") if p.stem == store.meta.slide_name)
    for candidate in candidates:
        if not candidate.is_file():
            continue
        try:
            slide = open_slide(candidate)
        except LpdError:  # something else of that name
            continue
        if slide.fingerprint == store.meta.slide_fingerprint:
            return slide
        slide.close()
    return None
