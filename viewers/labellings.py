"""Labellings: the label sets of the results folder, and what proposals need of slides and results, kept for a while."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from lpd.errors import LpdError, MissingMppError
from lpd.inference.store import ResultStore
from lpd.labelling.appearance import Appearance, look_at
from lpd.labelling.doubt import Doubt, read_doubt
from lpd.labelling.grid import TileGrid
from lpd.labelling.labelling import Labelling
from lpd.labelling.log import LabelledSlide, LabelScheme
from lpd.slide.tissue import tissue_mask
from viewers.catalog import Catalogue
from viewers.errors import NotFoundError
from viewers.slide_info import SlideInfo

T = TypeVar("T")

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_KEPT = 8


class Labellings:
    """Label sets below ``folder``, one folder each; opened when first asked for, and kept open. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Labelling] = {}
        self._guard = threading.Lock()
        self._looks: _Kept[Appearance] = _Kept()
        self._doubts: _Kept[Doubt] = _Kept()

    def all(self) -> list[Labelling | tuple[str, str]]:
        """The label sets, the newest first; of those that cannot be read the id and why."""
        try:
            names = sorted((p.name for p in self.folder.iterdir() if _ID.fullmatch(p.name)), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found: list[Labelling | tuple[str, str]] = []
        for name in names:
            try:
                found.append(self.get(name))
            except LpdError as error:
                found.append((name, str(error)))
        return found

    def get(self, labels_id: str) -> Labelling:
        """One label set, with what others have said in it meanwhile.

        Raises:
            NotFoundError: there is none of that id.
            DatasetError: it is damaged.
        """
        folder = self.folder / labels_id
        if not _ID.fullmatch(labels_id) or not folder.is_dir():
            raise NotFoundError(
                f"there is no label set {labels_id[:40]!r}: it may have been deleted, so reload the page"
            )
        with self._guard:
            known = self._open.get(labels_id)
            if known is None or not known.log_path.exists():
                known = self._open[labels_id] = Labelling(folder)
        known.refresh()
        return known

    def create(self, scheme: LabelScheme) -> Labelling:
        """Begin a label set.

        Raises:
            DatasetError: it cannot be written.
        """
        labels_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        Labelling.create(self.folder / labels_id, scheme)
        return self.get(labels_id)

    def looks(self, catalogue: Catalogue, info: SlideInfo, grid: TileGrid) -> Appearance:
        """How a slide's tissue tiles look; one coarse look at the slide the first time.

        Raises:
            LpdError: the slide cannot be read.
        """

        def look() -> Appearance:
            with catalogue.borrow(info.file.id) as slide:
                return look_at(slide, grid, tissue_mask(slide))

        return self._looks.get((info.fingerprint, grid), look)

    def doubt(self, store: ResultStore, grid: TileGrid) -> Doubt:
        """What a result says of the tiles of its slide.

        Raises:
            ResultError: it cannot be read.
        """
        seen = store.changes()
        return self._doubts.get((store.folder, seen.run, seen.revision, grid), lambda: read_doubt(store, grid))


def as_labelled(info: SlideInfo) -> LabelledSlide:
    """A slide as label sets know it.

    Raises:
        MissingMppError: nobody knows its resolution.
    """
    if info.mpp is None:
        raise MissingMppError(f"{info.file.name} has no resolution: enter the size of one pixel beside the slide first")
    return LabelledSlide(info.fingerprint, Path(info.file.name).stem, info.width_l0, info.height_l0, info.mpp)


class _Kept(Generic[T]):
    """Values that take a while to make, one at a time; those used last are kept."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._guard:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > _KEPT:
                self._values.popitem(last=False)
            return self._values[key]
