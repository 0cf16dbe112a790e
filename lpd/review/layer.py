"""CorrectionLayer: what the edits of a log add up to, as a sparse pyramid beside the mask that can be made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpd.classes import NOT_COMPUTED
from lpd.errors import ResultError
from lpd.export.source import Mask, blocks
from lpd.inference.frame import Box
from lpd.inference.ngff import mask_attributes
from lpd.inference.pyramid import FORMAT_2, Indices, Pyramid, create_arrays, zarr
from lpd.inference.store import ResultStore
from lpd.review.log import Edit, EditLog
from lpd.review.pixels import Pixels
from lpd.runs import write_json_atomically

_STORE, _STATE = "corrections.zarr", "state.json"
_CHUNK_PX = 512
#: Of what the state file holds; one of another number is made again from the log.
_FORMAT = 2


@dataclass(frozen=True)
class Counts:
    """In mask pixels.

    Attributes:
        reviewed: pixels that the model calls tissue and somebody has judged.
        changed: judged pixels whose class is now another one than the model's.
        tissue: all pixels that the model calls tissue.
        corrected: pixels of the corrected mask by value, 0 … 255.
    """

    reviewed: int
    changed: int
    tissue: int
    corrected: tuple[int, ...]


class CorrectionLayer:
    """uint8 (H, W) as the mask: 0 … C where somebody said so, 255 elsewhere; chunks without any are no files.

    The log alone is the truth: what was not carried out before a kill, or is damaged, is carried out from it.

    Args:
        folder: of the review.
        store: the result.
    """

    def __init__(self, folder: Path, store: ResultStore) -> None:
        self._path, self._state_path = folder / _STORE, folder / _STATE
        self._store = store
        self._reader: Pyramid | None = None
        self._state: dict[str, Any] = {}

    def is_behind(self, log: EditLog) -> bool:
        """Whether :meth:`follow` has something to do."""
        there = self._path.is_dir() and self._carried_out(log, len(log.edits), self._read_state())
        return bool(log.edits) and not there

    def follow(self, log: EditLog) -> None:
        """Carry out the edits that have not been; nobody else may write meanwhile.

        Raises:
            ResultError: the disk is full or cannot be written, or the log is damaged.
        """
        state = self._read_state()
        if not self._path.is_dir() or not self._carried_out(log, state.get("applied", 0), state):
            self._create()
            state = {"format": _FORMAT, "applied": 0, "chunks": {}}
        new = log.edits[state["applied"] :]
        writer = Pyramid(self._path)
        try:
            for edit in new:
                _carry_out(edit, log, writer)
            writer.flush()
        except OSError as error:
            raise ResultError(
                f"cannot write {self._path} ({error.strerror or error}): free some space, then do it again"
            ) from error
        chunks = dict(state["chunks"])
        for x, y in sorted({place for edit in new for place in _chunks(edit.box)}):
            chunks[f"{x} {y}"] = self._count(writer, x, y)
        last = log.edits[-1].id if log.edits else ""
        self._write_state({**state, "applied": len(log.edits), "last": last, "chunks": chunks})

    def _carried_out(self, log: EditLog, count: int, state: dict[str, Any]) -> bool:
        """Whether the first ``count`` edits of this very log have been, and no others."""
        known = 0 < count <= len(log.edits) and state.get("applied") == count
        return known and bool(state.get("last") == log.edits[count - 1].id)

    def invalidate(self) -> None:
        """Have the next :meth:`follow` make everything anew."""
        self._state_path.unlink(missing_ok=True)

    def sample(self, ys: Indices, xs: Indices, step: float) -> Mask:
        """Values at rows ``ys`` and columns ``xs`` of the mask, see :meth:`~lpd.inference.pyramid.Pyramid.sample`."""
        with self._reading():
            if self._reader is None:
                self._reader = Pyramid(self._path)
            return self._reader.sample(ys, xs, step)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            self._reader = None
            raise ResultError(
                f"{self._path} cannot be read ({error}): delete this folder, it is made again from the log beside it"
            ) from error

    def counts(self) -> Counts:
        """How much has been judged; the first time after a change of the mask that takes a look at all of it.

        Raises:
            ResultError: the result cannot be read.
        """
        state = self._read_state()
        mask_revision = self._store.changes().revision
        if state.get("mask_revision") != mask_revision:
            with self._reading():
                reader = Pyramid(self._path)
                chunks = {key: self._count(reader, *map(int, key.split())) for key in state["chunks"]}
            model = sum(np.bincount(block.ravel(), minlength=256) for _, _, block in blocks(self._store))
            state = {**state, "chunks": chunks, "mask_revision": mask_revision, "model": np.asarray(model).tolist()}
            self._write_state(state)
        classes = self._store.meta.classes.count
        sums = np.array([*state["chunks"].values(), [0] * (classes + 3)]).sum(axis=0)
        corrected = np.array(state["model"])
        corrected[: classes + 1] += sums[2:]
        corrected[NOT_COMPUTED] -= sums[2:].sum()
        return Counts(int(sums[0]), int(sums[1]), sum(state["model"][:classes]), tuple(corrected.tolist()))

    def _count(self, pyramid: Pyramid, column: int, row: int) -> list[int]:
        """Of one chunk: judged tissue and changed pixels; then, by class and of background, pixels more than before."""
        x, y = column * _CHUNK_PX, row * _CHUNK_PX
        mask = self._store.read_mask_px(x, y, (_CHUNK_PX, _CHUNK_PX))
        said = pyramid.sample(y + np.arange(_CHUNK_PX), x + np.arange(_CHUNK_PX), 1.0)
        judged = said != NOT_COMPUTED
        changed = judged & (said != mask)
        classes = self._store.meta.classes.count
        now, before = (np.bincount(values[changed], minlength=256)[: classes + 1] for values in (said, mask))
        return [int((judged & (mask < classes)).sum()), int(changed.sum()), *(now - before).tolist()]

    def _create(self) -> None:
        meta = self._store.meta
        self._reader = None
        try:
            shutil.rmtree(self._path, ignore_errors=True)
            group = zarr.open_group(str(self._path), mode="w", **FORMAT_2)
            levels = create_arrays(self._path, tuple(reversed(meta.mask_size)), (_CHUNK_PX, _CHUNK_PX))
            group.attrs.update(mask_attributes(meta, levels))
        except OSError as error:
            raise ResultError(
                f"cannot write {self._path} ({error.strerror or error}): free some space, then do it again"
            ) from error

    def _read_state(self) -> dict[str, Any]:
        """What was written last; empty if nothing was, or not by us."""
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            known = isinstance(state["applied"], int) and isinstance(state["chunks"], dict)
            return dict(state) if known and state["format"] == _FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_state(self, state: dict[str, Any]) -> None:
        write_json_atomically(self._state_path, state)


def _carry_out(edit: Edit, log: EditLog, pyramid: Pyramid) -> None:
    box = edit.box
    pixels = log.pixels(edit)
    if edit.undoes:
        values = standing(log, box, log.active(edit.revision))
    else:
        values = np.full((box.height, box.width), NOT_COMPUTED if edit.value is None else edit.value, np.uint8)
    pyramid.write(box.x0, box.y0, values, pixels.where)


def standing(log: EditLog, box: Box, edits: list[Edit]) -> Mask:
    """What some edits, one after another, say of the pixels of a box: uint8 (h, w), 255 where they say nothing."""
    values = np.full((box.height, box.width), NOT_COMPUTED, np.uint8)
    for edit, pixels in overlapping(log, box, edits):
        here, there = _common(box, pixels.box)
        values[here][pixels.where[there]] = NOT_COMPUTED if edit.value is None else edit.value
    return values


def overlapping(log: EditLog, box: Box, edits: list[Edit]) -> Iterator[tuple[Edit, Pixels]]:
    """Those of some edits whose boxes meet ``box``, with their pixels."""
    for edit in edits:
        if edit.box.intersection(box):
            yield edit, log.pixels(edit)


def without(pixels: Pixels, others: Iterator[tuple[Edit, Pixels]]) -> Pixels:
    """The pixels less those of others."""
    left = pixels.where.copy()
    for _, other in others:
        here, there = _common(pixels.box, other.box)
        left[here] &= ~other.where[there]
    return Pixels(pixels.box, left)


def _common(one: Box, other: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part that two boxes share, as rows and columns of either."""
    both = one.intersection(other)

    def within(box: Box) -> tuple[slice, slice]:
        return slice(both.y0 - box.y0, both.y1 - box.y0), slice(both.x0 - box.x0, both.x1 - box.x0)

    return within(one), within(other)


def _chunks(box: Box) -> Iterator[tuple[int, int]]:
    for row in range(box.y0 // _CHUNK_PX, -(-box.y1 // _CHUNK_PX)):
        for column in range(box.x0 // _CHUNK_PX, -(-box.x1 // _CHUNK_PX)):
            yield column, row
