"""Routes of slides: the list, details, Deep Zoom tiles, thumbnails, label and macro pictures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from lpd.errors import OutdatedError
from lpd.slide.label_image import label_image_of
from viewers import images
from viewers.catalog import SlideInfo
from viewers.decoders import Decoders
from viewers.errors import NotFoundError
from viewers.services import Services
from viewers.slide_listing import SlideListing, details
from viewers.thumbnails import Thumbnails
from viewers.tiles import Tiles, deep_zoom

_FOREVER = "private, max-age=31536000, immutable"
_ASSOCIATED = ("label", "macro")
#: Properties that say what stands on the label, and those that repeat all others in one text.
_ON_LABEL = re.compile(
    r"barcode|label|patient|hamamatsu\.reference|^openslide\.comment$|^tiff\.imagedescription$", re.IGNORECASE
)


def slide_router(services: Services) -> APIRouter:
    """Everything under ``/api/slides`` and ``/slides``. Slides are named by opaque ids, never by a path."""
    router = APIRouter()
    catalogue = services.catalogue
    tiles, thumbnails = Tiles(catalogue), Thumbnails(services.cache / "thumbnails")
    listing, decoders = SlideListing(services), Decoders()

    shown = () if services.options.hide_labels else _ASSOCIATED

    @router.get("/api/slides")
    def slides(request: Request, since: str = "") -> Response:
        return _listing(request, listing.since(since) if since else listing.whole())

    @router.get("/api/slides/{slide_id}")
    def slide(slide_id: str) -> dict[str, Any]:
        with catalogue.borrow(slide_id) as opened:
            pictures = [name for name in shown if name in opened.associated()]
            properties = {str(name): str(value) for name, value in opened.properties.items()}
        if services.options.hide_labels:
            properties = {name: value for name, value in properties.items() if not _ON_LABEL.search(name)}
        info = catalogue.info(slide_id)
        truth = label_image_of(info.file.path) is not None
        return details(info) | {"properties": properties, "pictures": pictures, "truth": truth}

    @router.put("/api/slides/{slide_id}/mpp")
    def set_mpp(slide_id: str, mpp: Annotated[float | None, Body(embed=True, allow_inf_nan=False)]) -> dict[str, Any]:
        return details(catalogue.remember_mpp(slide_id, mpp))

    @router.get("/slides/{slide_id}.dzi")
    def descriptor(slide_id: str) -> Response:
        return Response(deep_zoom(catalogue.info(slide_id)).descriptor(), media_type="application/xml")

    @router.get("/slides/{slide_id}_files/{level}/{col}_{row}.jpeg")
    async def tile(request: Request, slide_id: str, level: int, col: int, row: int) -> Response:
        known = catalogue.known_info(slide_id)
        kept = tiles.kept(known, level, col, row) if known and _is_asked_for(request, known) else None
        if known and kept:  # no thread need look
            return _picture(request, known, lambda: kept)

        def answer() -> Response:
            info = catalogue.info(slide_id)
            if not _is_asked_for(request, info):  # tiles of two pictures would stand side by side
                raise OutdatedError(f"{info.file.name} has been replaced meanwhile: reload the page")
            return _picture(request, info, lambda: tiles.jpeg(info, level, col, row))

        return await decoders.run(slide_id, answer)

    @router.get("/slides/{slide_id}/thumbnail")
    async def thumbnail(request: Request, slide_id: str) -> Response:
        def answer() -> Response:
            info = catalogue.info(slide_id)
            return _picture(request, info, lambda: thumbnails.jpeg(catalogue, slide_id))

        return await decoders.run(slide_id, answer)

    @router.get("/slides/{slide_id}/picture/{name}")
    def picture(request: Request, slide_id: str, name: str) -> Response:
        if services.options.hide_labels:
            raise NotFoundError("label and macro pictures are not shown here: the app was started with --hide-labels")
        with catalogue.borrow(slide_id) as opened:
            pictures = opened.associated()
        if name not in _ASSOCIATED or name not in pictures:
            raise NotFoundError(f"this slide has no {name[:20]!r} picture")
        return _picture(request, catalogue.info(slide_id), lambda: images.jpeg(pictures[name]))

    return router


def _listing(request: Request, content: dict[str, Any]) -> Response:
    # Written here: FastAPI would look at each of 100,000 values first. Whoever asks again may hear "as before".
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _picture(request: Request, info: SlideInfo, jpeg: Callable[[], bytes]) -> Response:
    """A JPEG, or "as before" to whoever has it of this very file."""
    headers = _caching(request, info)
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(jpeg(), media_type="image/jpeg", headers=headers)


def _is_asked_for(request: Request, info: SlideInfo) -> bool:
    """Whether an address means this very file, or whichever there is."""
    return request.query_params.get("f", info.fingerprint) == info.fingerprint


def _caching(request: Request, info: SlideInfo) -> dict[str, str]:
    # An address that carries the fingerprint goes on meaning the same file; any other must be asked for again.
    forever = request.query_params.get("f") == info.fingerprint
    return {"Cache-Control": _FOREVER if forever else "private, no-cache", "ETag": f'"{info.fingerprint}"'}
