"""Routes of prototypes: a result's maps, figures of merit, gallery, edits, counterparts in another result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Response
from pydantic import Field, StringConstraints

from lpd.classes import NOT_COMPUTED
from lpd.explain.gallery import top_regions
from lpd.explain.matching import match
from lpd.explain.slide_figures import DEFINITIONS, SlideFigures
from lpd.inference.recomputed_tiles import recomputed_areas, recomputed_tile
from lpd.inference.store import ResultStore
from lpd.slide.region import Region
from viewers import images
from viewers.checkpoints import describe_classes
from viewers.errors import NotFoundError
from viewers.prototype_results import Over, PrototypeResults
from viewers.tiles import tile_address
from viewers.turns import in_turn

#: Places of a map that its range is taken from.
_MOST_PLACES = 1 << 16
#: Colours begin and end where so much of the tissue, in %, is below and above.
_ENDS = 50, 99.5
#: Pictures of a prototype's gallery, and on each slide where it is of all slides.
_GALLERY, _PER_SLIDE = 8, 2
_MOST_CROP_PX, _CROP_PX = 1 << 14, 168
#: Looks at whole results at a time; they take a core each.
_LOOKS = 4
_Members = Annotated[str, StringConstraints(pattern=r"^\d{1,4}(-\d{1,4})+$", max_length=500)]
_Muted = Annotated[list[Annotated[int, Field(ge=0, le=9999)]], Query(max_length=1024)]
_Merged = Annotated[list[_Members], Query(max_length=512)]


def compare_router(results: PrototypeResults) -> APIRouter:
    """``/results/{id}/prototypes`` and what lies below, ``/api/matching``, crops of slides."""
    router, services = APIRouter(), results.services
    looks = in_turn(CapacityLimiter(_LOOKS))

    @router.get("/results/{job_id}/prototypes")
    @looks
    def prototypes(job_id: str) -> dict[str, Any]:
        with results.opened(job_id) as one:
            about = results.once(("about", *one.key), lambda: describe_prototypes(one.store))
            names, problem = results.names(one)
            return about | {"names": names, "names_problem": problem, "replaced": results.is_replaced(one)}

    @router.get("/results/{job_id}/prototypes/figures")
    @looks
    def figures(job_id: str, over: Over = "slide") -> dict[str, Any]:
        with results.opened_over(job_id, over) as found:
            measured = results.figures(found)
        return measured.to_dict() | {"slides": len(found), "definitions": dict(DEFINITIONS)}

    @router.get("/results/{job_id}/prototypes/gallery")
    @looks
    def gallery(job_id: str, over: Over = "slide") -> dict[str, Any]:
        with results.opened_over(job_id, over) as found:
            stores = [(one.job.slide_id, one.store) for one in found]
            names = {one.job.slide_id: one.job.slide_name for one in found}
            keys = tuple(one.key for one in found)
            places = results.once(("gallery", *keys), lambda: describe_gallery(stores))
            return places | describe_flags(results.figures(found)) | {"slides": names}

    @router.get("/results/{job_id}/prototypes/tiles/{level}/{col}_{row}.png")
    def edited(job_id: str, level: int, col: int, row: int, muted: _Muted = [], merged: _Merged = []) -> Response:  # noqa: B006
        with results.opened(job_id) as one:
            region, size = tile_address(services.catalogue.info(one.job.slide_id), level, col, row)
            values = recomputed_tile(one.store, region, size, muted, _groups(merged))
        caching = "private, max-age=86400, immutable" if one.job.run.ended else "no-store"
        return Response(images.grey_png(values), media_type="image/png", headers={"Cache-Control": caching})

    @router.get("/results/{job_id}/prototypes/areas")
    @looks
    def areas(job_id: str, muted: _Muted = [], merged: _Merged = []) -> dict[str, Any]:  # noqa: B006
        with results.opened(job_id) as one:
            asked = ("areas", *one.key, tuple(muted), tuple(merged))
            return results.once(asked, lambda: asdict(recomputed_areas(one.store, muted, _groups(merged))))

    @router.get("/api/matching")
    @looks
    def matching(left: str, right: str) -> dict[str, Any]:
        with results.opened(left) as one, results.opened(right) as other:
            return results.once(("matching", *one.key, *other.key), lambda: match(one.store, other.store)).to_dict()

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
        ``digest`` of the checkpoint, ``per_class`` K, ``count`` M, ``classes`` without background, ``stride`` (mask
        pixels per map pixel), ``limit`` (the logit of byte 254), ``unit`` (``cosine``, or ``logit`` of a linear head),
        ``adapted`` (whether prototypes of the slide's own correct it), ``uncounted`` (prototypes that the model has
        muted), and ``ranges``: of each map [low, high], the bytes its colours begin and end with.
    """
    assert store.prototypes is not None
    maps = store.prototypes.maps
    return {
        "digest": store.meta.checkpoint_digest,
        "per_class": maps.per_class,
        "count": maps.count,
        "classes": describe_classes(store.meta.classes)[:-1],
        "stride": maps.finest.stride_px,
        "limit": maps.limit,
        "unit": "logit" if maps.is_linear else "cosine",
        "adapted": maps.layer("correction") is not None,
        "uncounted": sorted(set(range(maps.count)) - {m for own in maps.groups for group in own for m in group}),
        "ranges": [_range(store, index, maps.finest.stride_px) for index in range(maps.count)],
    }


def describe_gallery(stores: Sequence[tuple[str, ResultStore]]) -> dict[str, Any]:
    """The places where each prototype is most active, best first; ``regions`` has a list for each prototype."""
    found = top_regions(stores, _GALLERY, _GALLERY if len(stores) == 1 else _PER_SLIDE)
    return {
        "regions": [
            [{"slide": r.slide, "region": (r.x_l0, r.y_l0, r.width_l0, r.height_l0), "score": r.score} for r in own]
            for own in found
        ]
    }


def describe_flags(figures: SlideFigures) -> dict[str, Any]:
    """``dead``: numbers of prototypes; ``near_duplicates``: [number, number, correlation] of pairs."""
    firsts = [(c * figures.per_class, own) for c, own in enumerate(figures.classes)]
    return {
        "dead": [first + k for first, own in firsts for k in own.dead],
        "near_duplicates": [(first + i, first + j, r) for first, own in firsts for i, j, r in own.near_duplicates],
    }


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
