"""A review as masks that exports read: the result's mask with the corrections in it, and the corrections alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lpd.classes import NOT_COMPUTED
from lpd.export.areas import area_text
from lpd.export.source import Mask
from lpd.inference.meta import ResultMeta
from lpd.review.review import NO_NAME, Review, Status
from lpd.slide.region import Region


class CorrectedMask:
    """The mask with what people have said in it; like a result store to :mod:`lpd.export`.

    Attributes:
        meta: the result's; its notice also says how much has been reviewed, by whom, if it is to be ``noted``.
    """

    def __init__(self, review: Review, *, noted: bool = True) -> None:
        self._review = review
        self.meta: ResultMeta = _noted(review) if noted else review.store.meta

    @property
    def mask_shape(self) -> tuple[int, int]:
        return self._review.store.mask_shape

    def read_mask(self, region: Region, size: tuple[int, int]) -> Mask:
        said, mask = self._review.read(region, size), self._review.store.read_mask(region, size)
        return np.where(said == NOT_COMPUTED, mask, said)

    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        return self._review.corrected_px(x_px, y_px, size, step)

    def read_scores_px(self, class_index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        return self._review.store.read_scores_px(class_index, x_px, y_px, size, step)


class CorrectionsAlone(CorrectedMask):
    """What people have said and nothing else: 255 where nobody has said anything."""

    def read_mask(self, region: Region, size: tuple[int, int]) -> Mask:
        return self._review.read(region, size)

    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask:
        return self._review.read_px(x_px, y_px, size, step)


def in_words(status: Status) -> str:
    """One sentence for people: how much has been reviewed, by whom."""
    if status.counts is None:
        return "Not reviewed by anybody."
    counts = status.counts
    names = ", ".join("somebody without a name" if a.name == NO_NAME else a.name for a in status.authors)
    share = 100 * counts.reviewed / counts.tissue if counts.tissue else 0.0
    # Rounded down: all of it is not said before it is so.
    percent = "100" if counts.reviewed == counts.tissue else f"{min(share, 99.9):.1f}"
    changed = area_text(counts.changed * status.pixel_mm2)
    return f"Reviewed by {names}: {percent} % of the tissue, {changed} changed."


def with_corrections(status: Status) -> str:
    """As :func:`in_words`, of what shows a :class:`CorrectedMask`."""
    changed = status.counts is not None and status.counts.changed > 0
    return in_words(status) + (" All figures and pictures are with the corrections." if changed else "")


def _noted(review: Review) -> ResultMeta:
    meta = review.store.meta
    return replace(meta, notice=f"{meta.notice} {in_words(review.status())}".strip())
