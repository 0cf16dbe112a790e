"""Writes a label set as a tile set in the BCSS layout: tiles, masks where there are any, and where all came from."""

from __future__ import annotations

import csv
import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

import lpd
from lpd.classes import NOT_COMPUTED, ClassScheme
from lpd.data.dataset_info import FILE_NAME
from lpd.errors import DatasetError, LpdError
from lpd.labelling.grid import Cell
from lpd.labelling.labelling import Labelling, Tick
from lpd.labelling.log import LabelledSlide
from lpd.labelling.splitting import Plan, Reviewed, SlidePart, label_digits, translated
from lpd.runs import write_json_atomically
from lpd.slide.slide import Pixels, Slide

PROVENANCE, TABLE = "provenance.json", "provenance.csv"
_COLUMNS = (
    *("file", "split", "slide", "fingerprint", "column", "row", "x_l0", "y_l0", "side_l0", "label"),
    *("author", "time", "proposed"),
)
_UNFINISHED = ".unfinished-"
#: What a killed export left is taken for such when it is so old.
_OLD_S = 3600.0
_THREADS = 4
_BATCH = 64

OpenSlide = Callable[[LabelledSlide], AbstractContextManager[Slide]]
#: Told how many tiles of how many are written; answers whether to stop.
Progress = Callable[[int, int], bool]


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        folder: the tile set.
        train, valid: number of tiles.
        copies: training tiles left out because another has the very same pixels and label.
        contradicting: tiles left out because their pixels carry more than one label.
    """

    folder: Path
    train: int
    valid: int
    copies: int
    contradicting: int


class StoppedError(LpdError):
    """Somebody asked the export to stop; nothing was written."""


@dataclass(frozen=True)
class Export:
    """A label set, and what it shall become.

    Attributes:
        labelling, plan: from :func:`~lpd.labelling.splitting.make_plan`; no ``problem``.
        reviewed: reviews by fingerprint of their slide.
        open_slide: opens a slide of the set, or raises an LpdError that names it.
        licence: one line, carried into every checkpoint trained on the set.
        author: who asked for it.
    """

    labelling: Labelling
    plan: Plan
    reviewed: Mapping[str, Sequence[Reviewed]]
    open_slide: OpenSlide
    licence: str = "not stated"
    author: str = ""


def write_dataset(
    export: Export, out: Path, *, replace: bool = False, progress: Progress | None = None
) -> ExportSummary:
    """Write a tile set; it appears at ``out`` when it is whole, and not at all before.

    ``train/NAME_xX_yY[1010].png`` are the ticked tiles, X and Y level-0 pixels; ``valid/img`` and ``valid/mask`` those
    of held-out slides that people have reviewed, in the mask 255 where nobody has. ``dataset.yaml``,
    ``provenance.json`` (the set, its slides) and ``provenance.csv`` (each tile) stand beside them.

    Args:
        export: what to write.
        out: a new folder.
        replace: put it in place of a tile set that is there, if that was made of a label set, too.
        progress: see :data:`Progress`.

    Raises:
        DatasetError: the plan has a problem, the folder exists or cannot be written.
        StoppedError: ``progress`` said so.
        LpdError: a slide cannot be opened or read, or is not the one that was labelled.
    """
    classes = export.plan.classes
    if export.plan.problem or classes is None:
        raise DatasetError(export.plan.problem or "nothing is labelled")
    _check_place(out, replace=replace)
    try:
        with _staging(out) as folder:
            writer = _Writer(export, classes, folder, out.name, progress)
            writer.write()
            summary = ExportSummary(out, *writer.counts())
            _write_texts(export, classes, folder, writer)
            _check_place(out, replace=replace)  # once more: another one may have come meanwhile
            _put_in_place(folder, out)
    except OSError as error:
        raise DatasetError(
            f"cannot write the tile set {out} ({error.strerror or error}): free some space or choose another folder"
        ) from error
    return summary


def _check_place(out: Path, *, replace: bool) -> None:
    if out.exists() and not replace:
        raise DatasetError(f"{out.name} exists already: choose another name")
    if out.exists() and not (out / PROVENANCE).is_file():  # tiles cut elsewhere, or a folder of several sets
        raise DatasetError(f"{out.name} was not made of a label set, so it is not replaced: choose another name")


@dataclass
class _Row:
    """A tile on its way; ``file`` relative to the set."""

    part: SlidePart
    cell: Cell
    tick: Tick | None
    file: str
    digest: bytes = b""


class _Writer:
    """Reads tiles and writes them; memory holds a batch of tiles."""

    def __init__(
        self, export: Export, classes: ClassScheme, folder: Path, name: str, progress: Progress | None
    ) -> None:
        self.export, self.classes, self.folder, self.name, self.progress = export, classes, folder, name, progress
        self.rows: list[_Row] = []
        self.copies = self.contradicting = 0
        self._done, self._total = 0, export.plan.train + export.plan.valid

    def write(self) -> None:
        (self.folder / "train").mkdir()
        if self.export.plan.valid:
            for name in ("img", "mask"):
                (self.folder / "valid" / name).mkdir(parents=True)
        for part in self.export.plan.parts:
            rows = self._valid_rows(part) if part.held_out else self._train_rows(part)
            if rows:
                self._write_part(part, rows)
        self._sort_out_copies()

    def counts(self) -> tuple[int, int, int, int]:
        valid = sum(row.tick is None for row in self.rows)
        return len(self.rows) - valid, valid, self.copies, self.contradicting

    def _train_rows(self, part: SlidePart) -> list[_Row]:
        name = "train/{}[{}].png"
        return [
            _Row(part, cell, tick, name.format(_stem(part, cell), label_digits(tick, self.classes)))
            for cell, tick in part.ticks
        ]

    def _valid_rows(self, part: SlidePart) -> list[_Row]:
        return [_Row(part, cell, None, f"valid/img/{_stem(part, cell)}.png") for cell in part.scored]

    def _write_part(self, part: SlidePart, rows: list[_Row]) -> None:
        with self.export.open_slide(part.slide) as slide, ThreadPoolExecutor(_THREADS) as threads:
            if slide.fingerprint != part.slide.fingerprint:
                raise DatasetError(f"{part.slide.name} is not the slide that was labelled: put the old file back")
            for first in range(0, len(rows), _BATCH):
                batch = rows[first : first + _BATCH]
                list(threads.map(lambda row: self._write_tile(slide, row), batch))
                self.rows += batch
                self._done += len(batch)
                if self.progress is not None and self.progress(self._done, self._total):
                    raise StoppedError("the export was stopped: nothing was written")

    def _write_tile(self, slide: Slide, row: _Row) -> None:
        side = self.export.labelling.scheme.tile_px
        region = row.part.grid.region(row.cell)
        pixels = slide.read(region, (side, side))
        row.digest = b"" if (pixels == pixels[0, 0]).all() else hashlib.sha256(pixels.tobytes()).digest()
        _write_png(self.folder / row.file, pixels)
        if row.tick is None:
            mask = np.full((side, side), NOT_COMPUTED, np.uint8)
            for review in self.export.reviewed.get(row.part.slide.fingerprint, ()):
                said = translated(review.read(region, (side, side)), review.classes, self.classes)
                mask = np.where(mask == NOT_COMPUTED, said, mask)
            _write_png(self.folder / row.file.replace("/img/", "/mask/"), mask)

    def _sort_out_copies(self) -> None:
        """Tiles of the very same pixels teach nothing twice, and with two labels nothing at all."""
        by_pixels: dict[bytes, list[_Row]] = {}
        for row in self.rows:
            if row.digest and row.tick is not None:
                by_pixels.setdefault(row.digest, []).append(row)
        gone: list[_Row] = []
        for same in by_pixels.values():
            if len({label_digits(row.tick, self.classes) for row in same if row.tick}) > 1:
                self.contradicting += len(same)
                gone += same
            else:
                self.copies += len(same) - 1
                gone += same[1:]
        for row in gone:
            (self.folder / row.file).unlink()
        left = {id(row) for row in gone}
        self.rows = [row for row in self.rows if id(row) not in left]


def _stem(part: SlidePart, cell: Cell) -> str:
    region = part.grid.region(cell)
    return f"{part.name}_x{region.x_l0}_y{region.y_l0}"


def _write_png(path: Path, pixels: Pixels) -> None:
    with path.open("xb") as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=3)


def _write_texts(export: Export, classes: ClassScheme, folder: Path, writer: _Writer) -> None:
    scheme = export.labelling.scheme
    plain = classes.to_dict()
    entries = [{k: v for k, v in one.items() if v != ""} for one in plain["classes"]]
    described: dict[str, Any] = {"name": writer.name, "mpp": scheme.mpp, "classes": entries}
    described |= {"background_color": plain["background_color"], "background": classes.background}
    described |= {"ignore": NOT_COMPUTED, "licence": export.licence}
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    write_json_atomically(folder / PROVENANCE, _provenance(export, writer))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(_table_row(row) for row in writer.rows)


def _provenance(export: Export, writer: _Writer) -> dict[str, Any]:
    labelling, plan = export.labelling, export.plan
    train, valid, copies, contradicting = writer.counts()
    return {
        "made_by": f"lpd {lpd.__version__}",
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "author": export.author,
        "label_set": {"id": labelling.id, "revision": labelling.refresh(), **labelling.scheme.to_dict()},
        "tiles": {"train": train, "valid": valid, "copies_left_out": copies, "contradicting_left_out": contradicting},
        "classes_left_out": list(plan.left_out),
        "notes": list(plan.notes),
        "slides": [
            {**asdict(part.slide), "files": part.name, "split": "valid" if part.held_out else "train"}
            for part in plan.parts
        ],
    }


def _table_row(row: _Row) -> tuple[object, ...]:
    region, slide = row.part.grid.region(row.cell), row.part.slide
    split = "train" if row.tick else "valid"
    place = (*row.cell, region.x_l0, region.y_l0, region.width_l0)
    said = (" ".join(row.tick.classes), row.tick.author, row.tick.time, row.tick.proposed) if row.tick else ("",) * 4
    return (row.file, split, slide.name, slide.fingerprint, *place, *said)


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out``, gone at the end; so is what an export that was killed had left an hour ago."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            written = max(path.stat().st_mtime for path in (left, *left.glob("**/")))  # of folders: one that is alive
            if time.time() - written > _OLD_S:
                shutil.rmtree(left, ignore_errors=True)
    folder = out.parent / f"{_UNFINISHED}{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    whole = folder.with_name(folder.name + "-whole")
    folder.rename(whole)
    try:
        if out.exists():
            out.rename(folder)  # deleted with the staging folder
        whole.rename(out)
    except OSError:
        if not out.exists() and folder.exists():
            folder.rename(out)
        raise
    finally:
        shutil.rmtree(whole, ignore_errors=True)
