"""Routes of layers: grey tiles at the slide tiles' addresses, which the browser colours; values at a point."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Response

from lpd.classes import NOT_COMPUTED
from lpd.inference.store import SCORE_MAX, ResultStore
from lpd.slide.label_image import LabelImage, label_image_of
from lpd.slide.region import Region
from lpd.slide.tissue import TissueMask, tissue_mask
from viewers import images
from viewers.errors import NotFoundError
from viewers.pool import Pool
from viewers.services import Services
from viewers.slide_info import SlideInfo
from viewers.tiles import tile_address

Bytes = npt.NDArray[np.uint8]
_SCORE, _PROTOTYPE = re.compile(r"score-(\d{1,3})"), re.compile(r"prototype-(\d{1,4})")
_FOREVER, _A_WHILE = "private, max-age=31536000, immutable", "private, max-age=600"
#: Tissue masks and ground truths kept at hand.
_KEPT = 8
_TISSUE = 0
_Place = Annotated[int, Query(ge=0, le=2**31)]


@dataclass(frozen=True)
class SlideLayers:
    """Tissue masks and ground truths of slides, made or opened when first asked for."""

    services: Services
    _tissue: dict[str, TissueMask] = field(default_factory=dict)
    _truths: Pool[tuple[Path, int, int], LabelImage] = field(
        default_factory=lambda: Pool(lambda key: LabelImage(*key), LabelImage.close, _KEPT)
    )

    def tissue(self, info: SlideInfo) -> TissueMask:
        """Where the slide's tissue is; a look at a coarse level the first time."""
        key = f"{info.fingerprint} {info.mpp}"
        if key not in self._tissue:
            with self.services.catalogue.borrow(info.file.id) as slide:
                found = tissue_mask(slide)
            while len(self._tissue) >= _KEPT:
                self._tissue.pop(next(iter(self._tissue)), None)
            self._tissue[key] = found
        return self._tissue[key]

    @contextmanager
    def truth(self, info: SlideInfo) -> Iterator[LabelImage]:
        """The slide's ground truth, for a ``with`` block.

        Raises:
            NotFoundError: it has none.
            SlideError: it cannot be read.
        """
        path = label_image_of(info.file.path)
        if path is None:
            raise NotFoundError(f"{info.file.name} has no ground truth: put {info.file.path.stem}.mask.tif beside it")
        with self._truths.borrow((path, info.width_l0, info.height_l0)) as opened:
            yield opened


def layer_router(services: Services) -> APIRouter:
    """Layers of results (``mask``, ``margin``, ``score-0``, ``prototype-0``, …) and slides (``tissue``, ``truth``)."""
    router = APIRouter()
    of_slides = SlideLayers(services)

    @router.get("/results/{job_id}/layers/{layer}/{level}/{col}_{row}.png")
    def result_layer(job_id: str, layer: str, level: int, col: int, row: int) -> Response:
        found = services.jobs.get(job_id)
        region, size = tile_address(services.catalogue.info(found.slide_id), level, col, row)
        with services.result(found) as store:
            values = _reader(layer)(store, region, size)
        return _answer(values, _FOREVER if found.run.ended else "no-store")

    @router.get("/slides/{slide_id}/layers/{layer}/{level}/{col}_{row}.png")
    def slide_layer(slide_id: str, layer: str, level: int, col: int, row: int) -> Response:
        info = services.catalogue.info(slide_id)
        region, size = tile_address(info, level, col, row)
        if layer == "tissue":
            where = of_slides.tissue(info).read(region, size)
            return _answer(np.where(where, _TISSUE, NOT_COMPUTED).astype(np.uint8), _A_WHILE)
        if layer == "truth":
            with of_slides.truth(info) as truth:
                return _answer(truth.read(region, size), _A_WHILE)
        raise NotFoundError(f"slides have no layer {layer[:20]!r}: it is tissue or truth")

    @router.get("/results/{job_id}/value")
    def value(job_id: str, x: _Place, y: _Place) -> dict[str, Any]:
        with services.result(services.jobs.get(job_id)) as store:
            return value_at(store, x, y)

    return router


def value_at(store: ResultStore, x_l0: int, y_l0: int) -> dict[str, Any]:
    """What a result says of one level-0 pixel.

    Returns:
        ``class``, the mask's value (C is background), and ``scores``, 0–1 by class; both None where nothing has been
        computed.
    """
    where = Region(x_l0, y_l0, 1, 1)
    found = int(store.read_mask(where, (1, 1))[0, 0])
    scores = [int(store.read_scores(c, where, (1, 1))[0, 0]) for c in range(store.meta.classes.count)]
    known = found != NOT_COMPUTED and NOT_COMPUTED not in scores
    return {
        "class": None if found == NOT_COMPUTED else found,
        "scores": [round(score / SCORE_MAX, 3) for score in scores] if known else None,
    }


def margins(store: ResultStore, region: Region, size: tuple[int, int]) -> Bytes:
    """By how much the highest score is above the next, uint8 (h, w): 0–254 for 0–1; 255 on glass and where unknown."""
    first = np.zeros(size[::-1], np.uint8)
    second, known = first.copy(), np.ones(size[::-1], np.bool_)
    for number in range(store.meta.classes.count):
        scores = store.read_scores(number, region, size)
        known &= scores != NOT_COMPUTED
        second = np.maximum(second, np.minimum(first, scores))
        first = np.maximum(first, scores)
    return np.where(known & (first > 0), first - second, NOT_COMPUTED).astype(np.uint8)


def _reader(layer: str) -> Callable[[ResultStore, Region, tuple[int, int]], Bytes]:
    if layer == "mask":
        return ResultStore.read_mask
    if layer == "margin":
        return margins
    if match := _SCORE.fullmatch(layer):
        number = int(match[1])
        return lambda store, region, size: store.read_scores(number, region, size)
    if match := _PROTOTYPE.fullmatch(layer):
        index = int(match[1])
        return lambda store, region, size: store.read_prototype(index, region, size)
    raise NotFoundError(f"results have no layer {layer[:20]!r}: it is mask, margin, score-0, … or prototype-0, …")


def _answer(values: Bytes, caching: str) -> Response:
    return Response(images.grey_png(values), media_type="image/png", headers={"Cache-Control": caching})
