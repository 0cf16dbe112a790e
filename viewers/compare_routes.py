"""Routes of prototypes: a result's maps, figures of merit, gallery, one place as a figure, counterparts in another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Response
from pydantic import Field, StringConstraints

from lpd.classes import NOT_COMPUTED
from lpd.errors import LpdError, ResultError
from lpd.explain.drawing import figure_bytes
from lpd.explain.gallery import top_regions
from lpd.explain.inspecting_store import inspect_slide, tile_box
from lpd.explain.inspection_figure import draw_inspection
from lpd.explain.matching import match
from lpd.explain.slide_figures import DEFINITIONS, slide_figures
from lpd.inference.recomputed_tiles import recomputed_areas, recomputed_tile
from lpd.inference.store import ResultStore
from lpd.model.names import names_of
from lpd.slide.region import Region
from viewers import images
from viewers.checkpoints import describe_classes
from viewers.errors import NotFoundError
from viewers.jobs import Job
from viewers.services import Services
from viewers.tiles import tile_address

#: Places of a map that its range is taken from.
_MOST_PLACES = 1 << 16
#: Colours begin and end where so much of the tissue, in %, is below and above.
_ENDS = 50, 99.5
#: Answers about results that have ended are kept: they cost a look at all maps.
_KEPT = 64
_GALLERY = 8
_MOST_CROP_PX = 1 << 14
_CROP_PX = 168
_SCREEN_DPI = 110
_MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
_Members = Annotated[str, StringConstraints(pattern=r"^\d{1,4}(-\d{1,4})+$", max_length=500)]
_Muted = Annotated[list[Annotated[int, Field(ge=0, le=9999)]], Query(max_length=1024)]
_Merged = Annotated[list[_Members], Query(max_length=512)]
_Point = Annotated[float, Query(ge=0, le=2**31, allow_inf_nan=False)]


@dataclass(frozen=True)
class _Remembered:
    """Answers by what was asked; each is worked out once, one at a time."""

    answers: OrderedDict[tuple[object, ...], dict[str, Any]] = field(default_factory=OrderedDict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[object, ...], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with self.guard:
            if key not in self.answers:
                self.answers[key] = work()
                while len(self.answers) > _KEPT:
                    self.answers.popitem(last=False)
            self.answers.move_to_end(key)
            return self.answers[key]


def compare_router(services: Services) -> APIRouter:
    """``/results/{id}/prototypes`` and what lies below, ``/api/matching``, crops of slides."""
    router, remembered = APIRouter(), _Remembered()

    @contextmanager
    def opened(job_id: str) -> Iterator[tuple[Job, ResultStore, tuple[object, ...]]]:
        job = services.jobs.get(job_id)
        with services.result(job) as store:
            if store.prototypes is None:
                raise ResultError(f"the result of {job.checkpoint} has no maps of prototypes: compute them in Compare")
            yield job, store, (job.id, store.changes().revision, store.changes().run)

    @router.get("/results/{job_id}/prototypes")
    def prototypes(job_id: str) -> dict[str, Any]:
        with opened(job_id) as (job, store, key):
            about = remembered.get(("about", *key), lambda: describe_prototypes(store))
        return about | name_prototypes(services, job)

    @router.get("/results/{job_id}/prototypes/figures")
    def figures(job_id: str) -> dict[str, Any]:
        with opened(job_id) as (_, store, key):
            found = remembered.get(("figures", *key), lambda: slide_figures(store).to_dict())
        return found | {"definitions": dict(DEFINITIONS)}

    @router.get("/results/{job_id}/prototypes/gallery")
    def gallery(job_id: str) -> dict[str, Any]:
        with opened(job_id) as (job, store, key):
            return remembered.get(("gallery", *key), lambda: describe_gallery(job.slide_name, store))

    @router.get("/api/matching")
    def matching(left: str, right: str) -> dict[str, Any]:
        with opened(left) as (_, one, key), opened(right) as (_, other, other_key):
            return remembered.get(("matching", *key, *other_key), lambda: match(one, other).to_dict())

    @router.get("/results/{job_id}/prototypes/tiles/{level}/{col}_{row}.png")
    def edited(job_id: str, level: int, col: int, row: int, muted: _Muted = [], merged: _Merged = []) -> Response:  # noqa: B006
        with opened(job_id) as (job, store, _):
            region, size = tile_address(services.catalogue.info(job.slide_id), level, col, row)
            values = recomputed_tile(store, region, size, muted, _groups(merged))
        caching = "private, max-age=86400, immutable" if job.run.ended else "no-store"
        return Response(images.grey_png(values), media_type="image/png", headers={"Cache-Control": caching})

    @router.get("/results/{job_id}/prototypes/areas")
    def areas(job_id: str, muted: _Muted = [], merged: _Merged = []) -> dict[str, Any]:  # noqa: B006
        with opened(job_id) as (_, store, key):
            asked = ("areas", *key, tuple(muted), tuple(merged))
            return remembered.get(asked, lambda: asdict(recomputed_areas(store, muted, _groups(merged))))

    @router.get("/results/{job_id}/prototypes/place.{kind}")
    def place(
        job_id: str,
        kind: Literal["png", "svg", "pdf"],
        x: _Point,
        y: _Point,
        beside: Annotated[list[str], Query(max_length=1)] = [],  # noqa: B006
        save: bool = False,
    ) -> Response:
        with ExitStack() as stack:
            found = [stack.enter_context(opened(one))[:2] for one in (job_id, *beside)]
            slide = stack.enter_context(services.catalogue.borrow(found[0][0].slide_id))
            if len({job.slide_id for job, _ in found}) > 1:
                raise LpdError("these results are of two slides: choose two of one slide")
            box = tile_box(found[0][1], x, y)
            side = box.width * found[0][1].meta.scale
            boxes = [box, *(tile_box(store, x, y, side) for _, store in found[1:])]
            seen = [
                inspect_slide(store, slide, own, names=_all_names(services, job, store))
                for (job, store), own in zip(found, boxes, strict=True)
            ]
        figure = draw_inspection(seen)
        content = figure_bytes(figure, kind) if save or kind != "png" else figure_bytes(figure, kind, _SCREEN_DPI)
        headers = {"Cache-Control": "no-store"}
        if save:
            headers["Content-Disposition"] = f'attachment; filename="prototypes_{round(x)}_{round(y)}.{kind}"'
        return Response(content, media_type=_MEDIA_TYPES[kind], headers=headers)

    @router.get("/slides/{slide_id}/crop/{x}_{y}_{width}_{height}.jpeg")
    def crop(slide_id: str, x: int, y: int, width: int, height: int) -> Response:
        info = services.catalogue.info(slide_id)
        region = (
            Region(x, y, width, height).clipped(info.width_l0, info.height_l0) if width > 0 and height > 0 else None
        )
        if region is None or max(width, height) > _MOST_CROP_PX:
            raise NotFoundError(f"{info.file.name} has no part at {x}, {y} of {width} × {height} px to show")
        shrink = _CROP_PX / max(region.width_l0, region.height_l0)
        size = max(1, round(region.width_l0 * shrink)), max(1, round(region.height_l0 * shrink))
        with services.catalogue.borrow(slide_id) as slide:
            content = images.jpeg(slide.read(region, size))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return router


def describe_prototypes(store: ResultStore) -> dict[str, Any]:
    """A result's maps as plain JSON.

    Returns:
        ``per_class`` K, ``count`` M, ``classes`` without background, ``stride`` (mask pixels per map pixel), ``limit``
        (the logit of byte 254), ``uncounted`` (prototypes that the model has muted), and ``ranges``: of each map
        [low, high], the bytes its colours begin and end with.
    """
    assert store.prototypes is not None
    maps = store.prototypes.maps
    return {
        "per_class": maps.per_class,
        "count": maps.count,
        "classes": describe_classes(store.meta.classes)[:-1],
        "stride": maps.finest.stride_px,
        "limit": maps.limit,
        "uncounted": sorted(set(range(maps.count)) - {m for own in maps.groups for group in own for m in group}),
        "ranges": [_range(store, index, maps.finest.stride_px) for index in range(maps.count)],
    }


def name_prototypes(services: Services, job: Job) -> dict[str, Any]:
    """The names that people gave to prototypes of the job's model, by number; none where the model is gone."""
    try:
        found = names_of(services.checkpoints.get(job.checkpoint))
    except NotFoundError:
        return {"names": {}, "names_problem": ""}
    return {"names": {m: name.name for m, name in found.by_number.items()}, "names_problem": found.problem}


def describe_gallery(slide_name: str, store: ResultStore) -> dict[str, Any]:
    """The places where each prototype is most active, best first; ``regions`` has a list for each prototype."""
    found = top_regions([(slide_name, store)], _GALLERY, _GALLERY)
    return {
        "regions": [
            [{"region": (r.x_l0, r.y_l0, r.width_l0, r.height_l0), "score": round(r.score, 4)} for r in own]
            for own in found
        ]
    }


def _all_names(services: Services, job: Job, store: ResultStore) -> list[str]:
    assert store.prototypes is not None
    names = name_prototypes(services, job)["names"]
    return [names.get(m, "") for m in range(store.prototypes.maps.count)] if names else []


def _groups(merged: Sequence[str]) -> list[frozenset[int]]:
    return [frozenset(map(int, members.split("-"))) for members in merged]


def _range(store: ResultStore, index: int, stride: int) -> tuple[int, int]:
    width, height = store.meta.mask_size
    step = max(stride, round((width * height / _MOST_PLACES) ** 0.5))
    values = store.read_prototype_px(index, 0, 0, (-(-width // step), -(-height // step)), step)
    known: npt.NDArray[np.uint8] = values[values != NOT_COMPUTED]
    if not known.size:
        return 0, NOT_COMPUTED - 1
    low, high = (round(float(v)) for v in np.percentile(known, _ENDS))
    return low, max(low + 1, high)
