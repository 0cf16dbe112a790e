"""ResultStore: a slide's label mask and class scores as OME-Zarr, readable by others while it grows. Needs no torch."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpd.errors import LpdError, ResultError, ShapeError
from lpd.inference.changes import CHANGES_NAME, ChangeLog, Changes, PartLog, finished_rows
from lpd.inference.chunk_buffer import Mask
from lpd.inference.frame import Box, sample_places
from lpd.inference.meta import CELL_PX, ResultMeta, ResultPart
from lpd.inference.ngff import mask_attributes, score_attributes
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.prototype_store import PrototypeStore, create_prototypes
from lpd.inference.pyramid import FORMAT_2, Bytes, Indices, Pyramid, create_arrays, zarr
from lpd.runs import write_json_atomically
from lpd.slide.region import Region

STORE_NAME = "result.zarr"
#: Largest stored score, standing for 1.0; 255 means not computed.
SCORE_MAX = 254
#: Writing takes a fortieth of the time at most: after each turn it waits that many times as long, and half a second.
_WAITS, _LEAST_WAIT_S = 40, 0.5


class ResultStore:
    """One result folder's pixels: ``result.zarr`` and ``changes.jsonl``.

    The root group is the image of class scores, uint8 (C, H/4, W/4), 0–254 for 0–1; ``labels/mask`` is the label
    mask, uint8 (H, W), 0 … C−1 classes, C background; in both 255 is not computed. Both are pyramids. The mask's
    pixel (0, 0) begins at the slide's level-0 (0, 0); one mask pixel is ``meta.scale`` level-0 pixels wide and high.
    Beside them there may be ``prototypes``, see :mod:`lpd.inference.prototype_store`.

    Attributes:
        folder: the result folder.
        meta: what the result is of.
        prototypes: maps of the prototypes, if they were asked for.
    """

    def __init__(self, folder: Path, meta: ResultMeta) -> None:
        self.folder = folder
        self.meta = meta
        self._scores = Pyramid(folder / STORE_NAME)
        self._mask = Pyramid(folder / STORE_NAME / "labels" / "mask")
        wanted = meta.settings.get("prototype_maps", False)
        self.prototypes = PrototypeStore(folder / STORE_NAME) if wanted else None
        self._changes = ChangeLog(folder / CHANGES_NAME)
        self._unannounced: list[tuple[Region, Box | None]] = []
        self._due = 0.0

    @classmethod
    def create(cls, folder: Path, meta: ResultMeta, prototypes: PrototypeMaps | None = None) -> ResultStore:
        """An empty result in ``folder``, in place of any result that was there.

        Args:
            folder: the result folder.
            meta: of the result.
            prototypes: maps to make room for, exactly if ``meta.settings`` ask for some.

        Raises:
            ResultError: the folder cannot be written.
        """
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CHANGES_NAME).unlink(missing_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{STORE_NAME}.") as temporary:
                _create_groups(Path(temporary) / "new", meta)
                if prototypes is not None:
                    create_prototypes(Path(temporary) / "new", meta, prototypes)
                if (folder / STORE_NAME).exists():
                    (folder / STORE_NAME).rename(Path(temporary) / "old")
                (Path(temporary) / "new").rename(folder / STORE_NAME)
            store = cls(folder, meta)
            store._changes.start()
        return store

    @classmethod
    def open(cls, folder: Path) -> ResultStore:
        """The result in ``folder``, finished or growing.

        Raises:
            ResultError: there is none, or it is not one of ours.
        """
        path = folder / STORE_NAME
        try:
            document = json.loads((path / ".zattrs").read_text(encoding="utf-8"))["lpd"]
            return cls(folder, ResultMeta.from_dict(document))
        except (FileNotFoundError, NotADirectoryError):
            raise ResultError(f"{folder} holds no result: segment a slide into it first") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LpdError) as error:
            raise ResultError(f"{path} is not a readable result ({error}): segment the slide again") from error

    def go_on(self) -> tuple[PartLog, ...]:
        """Write on in a result that other processes have begun, the last of which may have ended early.

        Returns:
            How far each of ``meta.parts`` is.

        Raises:
            ResultError: its log cannot be read or written.
        """
        with self._reading():
            self._changes.go_on()
            for _ in range(len(self._changes.parts()), len(self.meta.parts)):  # a kill came before it could say so
                self._changes.begin_part()
        return self.parts()

    def parts(self) -> tuple[PartLog, ...]:
        """How far each of ``meta.parts`` is; what is told of is on the disk.

        Raises:
            ResultError: its log cannot be read.
        """
        with self._reading():
            found = self._changes.parts()
        found += [PartLog((), (), complete=False)] * (len(self.meta.parts) - len(found))
        return tuple(self._told(part, log) for part, log in zip(self.meta.parts, found, strict=True))

    def _told(self, part: ResultPart, log: PartLog) -> PartLog:
        boxes, frame, region = log.boxes, self.meta.frame, part.place.region
        if log.rects and not boxes:  # of old, when a result was one rectangle, finished row by row
            boxes = finished_rows(log.rects, frame, frame.to_mask(region) if region else frame.bounds)
        return PartLog(boxes, log.rects, log.complete or bool(part.ended))

    def begin_part(self, meta: ResultMeta) -> None:
        """Add a part to the result: the last one of ``meta``, which is its description from now on.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        self._describe(meta)
        with _writing(self.folder):
            self._changes.begin_part()

    @property
    def mask_shape(self) -> tuple[int, int]:
        """(H, W) of the mask in its own pixels."""
        height, width = self._mask.shape
        return height, width

    def read_mask(self, region: Region, size: tuple[int, int]) -> Bytes:
        """The mask in ``region`` (level 0), nearest neighbour, as uint8 (h, w) for ``size`` = (w, h); 255 outside.

        Memory stays in proportion to ``size``: an overview is read from a coarser level.
        """
        return self.sample_mask(*sample_places(region, size, self.meta.scale))

    def mask_places(self, region: Region, size: tuple[int, int]) -> tuple[Indices, Indices, float]:
        """Rows (h,) and columns (w,) of the mask pixels that :meth:`read_mask` shows, and how far apart they are.

        Those of an overview are the pixels that the mask's coarser level is made of. Arguments are those of
        :meth:`read_mask`; some may lie outside of the mask.
        """
        ys, xs, step = sample_places(region, size, self.meta.scale)
        level = self._mask.level(step)
        return ys >> level << level, xs >> level << level, step

    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Bytes:
        """The mask's own pixels, unscaled, every ``step``-th from column ``x_px`` and row ``y_px`` on.

        Where ``step`` is a power of two and the corner a multiple of it, a coarser level is read, which holds the same.

        Returns:
            uint8 (h, w) for ``size`` = (w, h), 255 outside.
        """
        width, height = size
        exact = step & (step - 1) == 0 and x_px % step == y_px % step == 0
        ys, xs = y_px + step * np.arange(height), x_px + step * np.arange(width)
        return self.sample_mask(ys, xs, float(step if exact else 1))

    def sample_mask(self, ys: Indices, xs: Indices, step: float) -> Bytes:
        """The mask at rising rows ``ys`` and columns ``xs`` of its own pixels, uint8 (h, w), 255 outside.

        The coarsest level whose pixels are not further apart than ``step`` is read: pixels are those of its grid.
        """
        with self._reading():
            return self._mask.sample(ys, xs, step)

    def read_scores(self, class_index: int, region: Region, size: tuple[int, int]) -> Bytes:
        """One class's scores in ``region`` (level 0), nearest neighbour, uint8 (h, w): 0–254 for 0–1, else 255.

        Raises:
            ResultError: there is no such class.
        """
        if not 0 <= class_index < self.meta.classes.count:
            raise ResultError(f"class {class_index} does not exist: this result has {self.meta.classes.count} classes")
        with self._reading():
            return self._scores.sample(*sample_places(region, size, self.meta.scale * CELL_PX), lead=(class_index,))

    def read_scores_px(self, class_index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Bytes:
        """One class's score at every ``step``-th of the mask's own pixels, from column ``x_px`` and row ``y_px`` on.

        Returns:
            uint8 (h, w) for ``size`` = (w, h): 0–254 for 0–1, 255 where not computed or outside.
        """
        width, height = size
        ys, xs = (y_px + step * np.arange(height)) // CELL_PX, (x_px + step * np.arange(width)) // CELL_PX
        with self._reading():
            return self._scores.sample(ys, xs, 1.0, lead=(class_index,))

    def read_prototype(self, index: int, region: Region, size: tuple[int, int]) -> Bytes:
        """One prototype's map in ``region`` (level 0), nearest neighbour, uint8 (h, w); 255 outside and on glass.

        Byte b stands for the raw fused logit ``(b / 127 − 1) · prototypes.maps.limit``.

        Raises:
            ResultError: there is no such prototype, or no maps were kept.
        """
        store = self._with_prototype(index)
        with self._reading():
            return store.read_prototype(index, *sample_places(region, size, self.meta.scale))

    def read_prototype_px(self, index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Bytes:
        """One prototype's map at every ``step``-th of the mask's own pixels, from column ``x_px`` and row ``y_px`` on.

        Returns:
            uint8 (h, w) for ``size`` = (w, h), bytes as of :meth:`read_prototype`.

        Raises:
            ResultError: there is no such prototype, or no maps were kept.
        """
        width, height = size
        store = self._with_prototype(index)
        with self._reading():
            ys, xs = y_px + step * np.arange(height), x_px + step * np.arange(width)
            return store.read_prototype(index, ys, xs, float(step))

    def changes(self, since: int = 0, run: str = "") -> Changes:
        """What has been finished after revision ``since`` of ``run``; everything if this is another run's result."""
        with self._reading():
            return self._changes.read(since, run)

    def write_mask(self, x_px: int, y_px: int, mask: Bytes, where: Mask | None = None) -> None:
        """Put mask values (h, w) at column ``x_px``, row ``y_px`` of the mask; only those ``where`` (h, w) is True.

        Raises:
            ShapeError: the block reaches outside of the mask.
            ResultError: the disk is full or cannot be written.
        """
        self._write(self._mask, x_px, y_px, mask, where)

    def write_scores(self, x_cell: int, y_cell: int, scores: Bytes, where: Mask | None = None) -> None:
        """Put scores (C, h, w), 0–254, at column ``x_cell``, row ``y_cell`` of the maps; ``where`` as for the mask.

        Raises:
            ShapeError: the block reaches outside of the maps.
            ResultError: the disk is full or cannot be written.
        """
        self._write(self._scores, x_cell, y_cell, scores, where)

    def layer_shape(self, layer: MapLayer) -> tuple[int, int]:
        """(H, W) of a layer of prototype maps in its own pixels.

        Raises:
            ResultError: no maps are kept here.
        """
        return self._with_prototype(0).shape(layer)

    def write_layer(self, layer: MapLayer, x: int, y: int, block: Bytes, where: Mask | None = None) -> None:
        """Put bytes (channels, h, w) at column ``x``, row ``y`` of a layer of maps; ``where`` as for the mask.

        Raises:
            ResultError: the disk is full or cannot be written, or no maps are kept here.
        """
        with _writing(self.folder):
            self._with_prototype(0).write(layer, x, y, block, where)

    def commit(self, region: Region, box: Box | None = None) -> None:
        """Announce to readers that ``region`` (level 0) has been written; they hear of it soon, not at once.

        Args:
            region: for readers.
            box: its mask pixels, for those who go on: all of them that the part asks for are there.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        self._unannounced.append((region, box))
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Put all that is still in memory on the disk, and announce it.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        started = time.monotonic()
        with _writing(self.folder):
            self._scores.flush()
            self._mask.flush()
            if self.prototypes is not None:
                self.prototypes.flush()
            self._changes.append((r for r, _ in self._unannounced), (b for _, b in self._unannounced))
        self._unannounced.clear()
        ended = time.monotonic()
        self._due = ended + max(_LEAST_WAIT_S, _WAITS * (ended - started))

    def finish(self) -> None:
        """Announce to readers that the whole request has been written.

        Raises:
            ResultError: the disk is full or cannot be written.
        """
        self.flush()
        if self._changes.read().complete:
            return
        *parts, last = self.meta.parts
        ended = replace(last, ended=now())
        self._describe(replace(self.meta, parts=(*parts, ended)))
        with _writing(self.folder):
            self._changes.finish()

    def _with_prototype(self, index: int) -> PrototypeStore:
        if self.prototypes is None:
            raise ResultError(f"{self.folder} has no maps of prototypes: segment the slide with --prototype-maps")
        count = self.prototypes.maps.count
        if not 0 <= index < count:
            raise ResultError(f"prototype {index} does not exist: this result has {count} prototypes")
        return self.prototypes

    def _describe(self, meta: ResultMeta) -> None:
        path = self.folder / STORE_NAME / ".zattrs"
        with _writing(self.folder):
            attributes = json.loads(path.read_text(encoding="utf-8"))
            write_json_atomically(path, {**attributes, "lpd": meta.to_dict()})
        self.meta = meta

    def _write(self, pyramid: Pyramid, x: int, y: int, block: Bytes, where: Mask | None) -> None:
        *lead, height, width = pyramid.shape
        inside = 0 <= x <= width - block.shape[-1] and 0 <= y <= height - block.shape[-2]
        if not inside or list(block.shape[:-2]) != lead:
            raise ShapeError(f"a block {block.shape} at ({x}, {y}) does not fit into {pyramid.shape}")
        with _writing(self.folder):
            pyramid.write(x, y, block, where)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise ResultError(f"{self.folder} cannot be read ({error}): segment the slide again") from error


def now() -> str:
    """The time as results say it: UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def to_uint8_scores(scores: npt.NDArray[np.float32]) -> Bytes:
    """Scores 0–1 as the bytes that the store keeps, 0–254, rounded to nearest."""
    return np.rint(np.clip(scores, 0, 1) * SCORE_MAX).astype(np.uint8)


def remove_result(folder: Path) -> None:
    """Delete the pixels of the result in ``folder``, if there are any.

    Raises:
        ResultError: they cannot be deleted.
    """
    with _writing(folder):
        (folder / CHANGES_NAME).unlink(missing_ok=True)
        if (folder / STORE_NAME).exists():
            shutil.rmtree(folder / STORE_NAME)


def _create_groups(root: Path, meta: ResultMeta) -> None:
    mask_path = root / "labels" / "mask"
    for path in (root, root / "labels", mask_path):
        zarr.open_group(str(path), mode="w", **FORMAT_2)
    score_levels = create_arrays(root, (meta.classes.count, *reversed(meta.score_size)))
    mask_levels = create_arrays(mask_path, tuple(reversed(meta.mask_size)))
    _write_attributes(mask_path, mask_attributes(meta, mask_levels))
    _write_attributes(root / "labels", {"labels": ["mask"]})
    _write_attributes(root, {**score_attributes(meta, score_levels), "lpd": meta.to_dict()})


def _write_attributes(group_path: Path, attributes: dict[str, object]) -> None:
    zarr.open_group(str(group_path), mode="r+", **FORMAT_2).attrs.update(attributes)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResultError(f"cannot write to {folder} ({reason}): free some space or choose another folder") from error
