"""Routes of slides: the list, details, Deep Zoom tiles, thumbnails, label and macro pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from lpd.errors import LpdError
from lpd.slide.label_image import label_image_of
from viewers import checkpoints, images
from viewers.catalog import SlideFile, SlideInfo
from viewers.decoders import Decoders
from viewers.errors import NotFoundError
from viewers.result_index import ResultIndex
from viewers.services import Services
from viewers.thumbnails import Thumbnails
from viewers.tiles import Tiles, deep_zoom

#: How long an answer to "which slides are there" may wait for slides that nobody has opened yet.
_LISTING_PATIENCE_S = 0.5
_FOREVER = "private, max-age=31536000, immutable"
_ASSOCIATED = ("label", "macro")


def slide_router(services: Services) -> APIRouter:
    """Everything under ``/api/slides`` and ``/slides``. Slides are named by opaque ids, never by a path."""
    router = APIRouter()
    catalogue = services.catalogue
    tiles, thumbnails = Tiles(catalogue), Thumbnails(services.cache / "thumbnails")
    results, decoders = ResultIndex(services.jobs), Decoders()

    @router.get("/api/slides")
    def slides(request: Request) -> Response:
        models = services.checkpoints.all()
        done = results.by_slide()
        listed = [
            _entry(file, found)
            | {"suggested_checkpoint": checkpoints.suggest(models, file.name), "results": done.get(file.id, [])}
            for file, found in catalogue.infos(_LISTING_PATIENCE_S)
        ]
        return _listing(request, {"folder": str(catalogue.folder), "slides": listed})

    @router.get("/api/slides/{slide_id}")
    def slide(slide_id: str) -> dict[str, Any]:
        with catalogue.borrow(slide_id) as opened:
            pictures = [name for name in _ASSOCIATED if name in opened.associated()]
            properties = {str(name): str(value) for name, value in opened.properties.items()}
        info = catalogue.info(slide_id)
        truth = label_image_of(info.file.path) is not None
        return _details(info) | {"properties": properties, "pictures": pictures, "truth": truth}

    @router.put("/api/slides/{slide_id}/mpp")
    def set_mpp(slide_id: str, mpp: Annotated[float | None, Body(embed=True, allow_inf_nan=False)]) -> dict[str, Any]:
        return _details(catalogue.remember_mpp(slide_id, mpp))

    @router.get("/slides/{slide_id}.dzi")
    def descriptor(slide_id: str) -> Response:
        return Response(deep_zoom(catalogue.info(slide_id)).descriptor(), media_type="application/xml")

    @router.get("/slides/{slide_id}_files/{level}/{col}_{row}.jpeg")
    async def tile(request: Request, slide_id: str, level: int, col: int, row: int) -> Response:
        def answer() -> Response:
            info = catalogue.info(slide_id)
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


def _entry(file: SlideFile, found: SlideInfo | LpdError | None) -> dict[str, Any]:
    if isinstance(found, SlideInfo):
        return _details(found)
    entry = _about_file(file) | {"status": "unread"}
    return entry if found is None else {**entry, "status": "error", "error": str(found)}


def _about_file(file: SlideFile) -> dict[str, Any]:
    """``modified`` is in Unix seconds; ``size_bytes`` and it are 0 of a file that is not opened for what it is."""
    return {
        "id": file.id,
        "name": file.name,
        "relative": file.relative,
        "folder": file.folder,
        "size_bytes": file.size,
        "modified": file.mtime_ns / 1e9,
    }


def _details(info: SlideInfo) -> dict[str, Any]:
    slide_id, version, zoom = info.file.id, info.fingerprint, deep_zoom(info)
    return _about_file(info.file) | {
        "status": "ok",
        "width": info.width_l0,
        "height": info.height_l0,
        "mpp": info.mpp,
        "mpp_origin": info.mpp_origin,
        "vendor": info.vendor,
        "objective": info.objective,
        "synthetic": info.synthetic,
        "fingerprint": version,
        "tile_px": zoom.tile_px,
        "levels": zoom.level_count,
        "dzi": f"/slides/{slide_id}.dzi",
        "tiles": f"/slides/{slide_id}_files",
        "thumbnail": f"/slides/{slide_id}/thumbnail?f={version}",
    }


def _picture(request: Request, info: SlideInfo, jpeg: Callable[[], bytes]) -> Response:
    """A JPEG, or "as before" to whoever has it of this very file."""
    headers = _caching(request, info)
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(jpeg(), media_type="image/jpeg", headers=headers)


def _caching(request: Request, info: SlideInfo) -> dict[str, str]:
    # An address that carries the fingerprint goes on meaning the same file; any other must be asked for again.
    forever = request.query_params.get("f") == info.fingerprint
    return {"Cache-Control": _FOREVER if forever else "private, no-cache", "ETag": f'"{info.fingerprint}"'}
