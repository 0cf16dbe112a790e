"""Joining: a run goes on with, or adds to, what a folder already holds of the same slide, checkpoint and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from lpd.errors import ConfigError, ResultError
from lpd.inference.frame import MaskFrame
from lpd.inference.job import SegmentJob
from lpd.inference.meta import ResultMeta
from lpd.inference.settings import BackendName
from lpd.inference.store import ResultStore
from lpd.inference.wanted import PartOf, PixelSet, Wanted, pixels_of
from lpd.slide.pieces import TissuePieces, find_pieces
from lpd.slide.region import Region


def rest_of(folder: Path, meta: ResultMeta, job: SegmentJob) -> tuple[SegmentJob, ResultStore] | None:
    """What is left to do where others began, and the store to write on in; None if the folder holds no such result.

    The last part is gone on with if it was asked for the same place; else a further part begins.

    Args:
        folder: of the result.
        meta: what a new result would say of itself, with one part.
        job: what is to be done if nothing has been.

    Raises:
        ConfigError: the folder holds finished parts, computed in a way that this machine does not have.
        ResultError: the disk is full or cannot be written.
    """
    try:
        store = ResultStore.open(folder)
        if not store.meta.same_work(meta):
            return None
        store.go_on()
    except ResultError:  # no result, or an unreadable one
        return None
    try:
        backend = job.backend.running(cast(BackendName, store.meta.backend))
    except ConfigError:
        if has_finished(store):
            raise
        return None
    done = done_in(store, lambda: find_pieces(job.tissue))
    wanted = Wanted(job.asked, done)
    (part,) = meta.parts
    if store.meta.parts[-1].place != part.place:
        parts, region = (*store.meta.parts, part), _around(store.meta.region, meta.region)
        store.begin_part(replace(store.meta, parts=parts, region=region, settings=meta.settings))
    return replace(job.to_compute(wanted), backend=backend), store


def has_finished(store: ResultStore) -> bool:
    """Whether any part of a result got to its end."""
    return any(part.complete for part in store.parts())


def is_covered(store: ResultStore, asked: PixelSet, pieces: Callable[[], TissuePieces]) -> bool:
    """Whether a result holds all pixels that are asked for."""
    return not Wanted(asked, done_in(store, pieces)).count


def done_in(store: ResultStore, pieces: Callable[[], TissuePieces]) -> list[PixelSet]:
    """Pixels that are in a store for good, part by part.

    What a killed run wrote but did not announce is not among them: of such pixels scores or coarser levels may lack.
    """
    frame: MaskFrame = store.meta.frame
    found: list[PixelSet] = []
    for part, log in zip(store.meta.parts, store.parts(), strict=True):
        if log.complete or log.boxes:
            pixels = pixels_of(part.place, frame, store.meta.slide_name, pieces)
            found.append(pixels if log.complete else PartOf(pixels, log.boxes))
    return found


def _around(one: Region | None, other: Region | None) -> Region | None:
    """The smallest rectangle around both; None, the whole slide, if either is."""
    if one is None or other is None:
        return None
    x, y = min(one.x_l0, other.x_l0), min(one.y_l0, other.y_l0)
    return Region(x, y, max(one.right_l0, other.right_l0) - x, max(one.bottom_l0, other.bottom_l0) - y)
