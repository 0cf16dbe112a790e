"""Routes of reviews: how far one is, the region under a click, edits, its layer, and files."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from lpd.errors import OutdatedError, ResultError
from lpd.review.finding import Found
from lpd.review.review import NO_NAME, Review
from lpd.review.sources import in_words
from lpd.slide.region import Region
from viewers import images
from viewers.errors import NotReadyError
from viewers.gate import visitor
from viewers.jobs import Job
from viewers.report_routes import describe_tally
from viewers.services import Services
from viewers.tiles import tile_address

_Place = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]
_Pixel = Annotated[int, Field(ge=-(2**31), le=2**31)]
_Value = Annotated[int, Field(ge=-1, le=255)]
_View = tuple[_Pixel, _Pixel, _Pixel, _Pixel]
_MOST_POINTS = 5000
_PART = 1 << 20


class Said(BaseModel):
    """Of which mask a person speaks, and up to which revision of its review they have seen it."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(max_length=64)
    revision: int = Field(ge=0, le=2**53)


class JudgedRegion(Said):
    """The region around (x, y), level-0 pixels, as far as it is in ``view`` (x, y, width, height); a ``value`` of null
    accepts it."""

    x: _Place
    y: _Place
    view: _View
    value: _Value | None = None


class Stroke(Said):
    """What a brush covers along a line of level-0 pixels; a ``value`` of null takes back what was said there."""

    points: list[tuple[_Place, _Place]] = Field(min_length=1, max_length=_MOST_POINTS)
    radius_um: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    value: _Value | None = None


def review_router(services: Services) -> APIRouter:
    """Everything under ``/results/{id}/review``."""
    router = APIRouter(prefix="/results/{job_id}/review")
    reviews = services.reviews

    @contextmanager
    def corrected(job_id: str, said: Said) -> Iterator[Review]:
        job = _ended(services.jobs.get(job_id))
        slide = services.catalogue.info(job.slide_id)
        with reviews.of(job) as review:
            _require_run(review, said)
            if review.store.meta.slide_fingerprint != slide.fingerprint:
                raise OutdatedError(f"{slide.file.name} has been replaced since it was segmented: segment it again")
            yield review

    @router.get("")
    def status(request: Request, job_id: str, since: Annotated[int, Query(ge=0, le=2**53)] = 0) -> dict[str, Any]:
        with reviews.of(services.jobs.get(job_id)) as review:
            return _describe(review, _author(request), since)

    @router.get("/region")
    def region(
        job_id: str,
        x: Annotated[float, Query(ge=-(2**31), le=2**31, allow_inf_nan=False)],
        y: Annotated[float, Query(ge=-(2**31), le=2**31, allow_inf_nan=False)],
        view: Annotated[list[int], Query(min_length=4, max_length=4)],
    ) -> dict[str, Any]:
        with reviews.of(services.jobs.get(job_id)) as review:
            revision = review.refresh()
            return {"revision": revision, "run": review.run} | _found(review, review.find(x, y, _view(review, view)))

    @router.post("/region")
    def judge(request: Request, job_id: str, said: JudgedRegion) -> dict[str, Any]:
        with corrected(job_id, said) as review:
            view, author = _view(review, said.view), _author(request)
            review.judge(author, (said.x, said.y), said.value, view=view, since=said.revision)
            return _describe(review, author, said.revision)

    @router.post("/stroke")
    def paint(request: Request, job_id: str, said: Stroke) -> dict[str, Any]:
        with corrected(job_id, said) as review:
            author = _author(request)
            review.paint(author, said.points, said.radius_um, said.value, since=said.revision)
            return _describe(review, author, said.revision)

    @router.post("/undo")
    def undo(request: Request, job_id: str, said: Said) -> dict[str, Any]:
        with corrected(job_id, said) as review:
            author = _author(request)
            review.undo(author)
            return _describe(review, author, said.revision)

    @router.post("/redo")
    def redo(request: Request, job_id: str, said: Said) -> dict[str, Any]:
        with corrected(job_id, said) as review:
            author = _author(request)
            review.redo(author, since=said.revision)
            return _describe(review, author, said.revision)

    @router.get("/tiles/{level}/{col}_{row}.png")
    def tile(job_id: str, level: int, col: int, row: int) -> Response:
        found = services.jobs.get(job_id)
        region, size = tile_address(services.catalogue.info(found.slide_id), level, col, row)
        with reviews.of(found) as review:
            content = images.grey_png(review.read(region, size))
        return Response(content, media_type="image/png", headers={"Cache-Control": "no-store"})

    @router.get("/export/{kind}")
    def export(job_id: str, kind: str) -> Response:
        file, name, media_type = reviews.file(services.jobs.get(job_id), kind)
        size = os.fstat(file.fileno()).st_size  # of the log, which may grow while it is sent, as it is now
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Length": str(size),
        }
        return StreamingResponse(_parts(file, size), media_type=media_type, headers=headers)

    return router


def _parts(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first ``size`` bytes of a file, which is closed then."""
    with file:
        while size and (part := file.read(min(size, _PART))):
            size -= len(part)
            yield part


def _author(request: Request) -> str:
    return visitor(request).name or NO_NAME


def _ended(job: Job) -> Job:
    if not job.run.ended:
        raise NotReadyError(f"result {job.id} is still being computed: review it when that is done")
    return job


def _require_run(review: Review, said: Said) -> None:
    if said.run != review.run:
        raise OutdatedError(
            "this result was computed anew meanwhile: reload the page to review it; "
            "what was said of the earlier mask is kept beside it"
        )


def _view(review: Review, view: Sequence[int]) -> Region:
    meta = review.store.meta
    x, y, width, height = view
    seen = Region(x, y, max(1, width), max(1, height)).clipped(meta.width_l0, meta.height_l0)
    if seen is None:
        raise ResultError("the view shows no part of the slide: move the slide into view first")
    return seen


def _describe(review: Review, author: str, since: int) -> dict[str, Any]:
    """How far a review is, as plain JSON; ``rects`` has a level-0 rectangle for each edit after revision ``since``,
    ``mine`` and ``undone`` say which edit the asker would undo and redo, ``corrected`` has the areas of the mask with
    the corrections in it."""
    status, mine, undone = review.status(), review.last_of(author), review.last_undone_of(author)
    counts, mm2 = status.counts, status.pixel_mm2
    return {
        "run": review.run,
        "revision": status.revision,
        "rects": [[r.x_l0, r.y_l0, r.width_l0, r.height_l0] for r in review.changes(since)],
        "words": in_words(status),
        "reviewed_mm2": counts.reviewed * mm2 if counts else 0.0,
        "changed_mm2": counts.changed * mm2 if counts else 0.0,
        "tissue_mm2": counts.tissue * mm2 if counts else None,
        "share": counts.reviewed / counts.tissue if counts and counts.tissue else 0.0,
        "authors": [{"name": a.name, "edits": a.edits, "last": a.last} for a in status.authors],
        "me": author,
        "mine": {"kind": mine.kind, "time": mine.time} if mine else None,
        "undone": {"kind": undone.kind, "time": undone.time} if undone else None,
        "corrected": describe_tally(status.corrected, review.store.meta.classes) if status.corrected else None,
        "earlier": len(review.earlier()),
    }


def _found(review: Review, found: Found) -> dict[str, Any]:
    """A region for the page: its ``picture`` over ``box`` (level-0 pixels) has 1 inside and 2 along the border."""
    scale, box, where = review.store.meta.scale, found.pixels.box, found.pixels.where
    inner = ndimage.binary_erosion(where)
    picture = images.grey_png(where.astype(np.uint8) + (where & ~inner))
    return {
        "value": found.value,
        "cut": found.cut,
        "area_mm2": found.pixels.count * (review.store.meta.mask_mpp / 1000) ** 2,
        "box": [box.x0 * scale, box.y0 * scale, box.width * scale, box.height * scale],
        "picture": "data:image/png;base64," + base64.b64encode(picture).decode("ascii"),
    }
