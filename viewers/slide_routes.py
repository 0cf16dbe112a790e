"""Routes of slides: the list, details, Deep Zoom tiles, thumbnails, label and macro pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from lpd.errors import ConfigError, LpdError
from lpd.slide.deepzoom import DeepZoom
from lpd.slide.label_image import label_image_of
from viewers import checkpoints, images
from viewers.catalog import SlideFile, SlideInfo
from viewers.errors import NotFoundError
from viewers.services import Services

#: How long one answer to "which slides are there" may spend on opening slides it has not seen before.
_LISTING_BUDGET_S = 1.5
_LARGEST_INDEX = 2**31
_FOREVER = "private, max-age=31536000, immutable"
_ASSOCIATED = ("label", "macro")


def slide_router(services: Services) -> APIRouter:
    """Everything under ``/api/slides`` and ``/slides``. Slides are named by opaque ids, never by a path."""
    router = APIRouter()
    catalogue = services.catalogue

    @router.get("/api/slides")
    def slides() -> dict[str, Any]:
        models = services.checkpoints.all()
        listed = [
            _entry(file, found) | {"suggested_checkpoint": checkpoints.suggest(models, file.name)}
            for file, found in catalogue.infos(_LISTING_BUDGET_S)
        ]
        return {"folder": str(catalogue.folder), "slides": listed}

    @router.get("/api/slides/{slide_id}")
    def slide(slide_id: str) -> dict[str, Any]:
        with catalogue.borrow(slide_id) as opened:
            pictures = [name for name in _ASSOCIATED if name in opened.associated()]
        info = catalogue.info(slide_id)
        truth = label_image_of(info.file.path) is not None
        return _details(info) | {"properties": info.properties, "pictures": pictures, "truth": truth}

    @router.put("/api/slides/{slide_id}/mpp")
    def set_mpp(slide_id: str, mpp: Annotated[float | None, Body(embed=True, allow_inf_nan=False)]) -> dict[str, Any]:
        return _details(catalogue.remember_mpp(slide_id, mpp))

    @router.get("/slides/{slide_id}.dzi")
    def descriptor(slide_id: str) -> Response:
        return Response(deep_zoom(catalogue.info(slide_id)).descriptor(), media_type="application/xml")

    @router.get("/slides/{slide_id}_files/{level}/{col}_{row}.jpeg")
    def tile(request: Request, slide_id: str, level: int, col: int, row: int) -> Response:
        info = catalogue.info(slide_id)
        region, size = tile_address(info, level, col, row)
        if _is_fresh(request, info):
            return Response(status_code=304, headers=_caching(request, info))
        with catalogue.borrow(slide_id) as opened:
            pixels = opened.read(region, size)
        return Response(images.jpeg(pixels), media_type="image/jpeg", headers=_caching(request, info))

    @router.get("/slides/{slide_id}/thumbnail")
    def thumbnail(request: Request, slide_id: str) -> Response:
        data = images.thumbnail_jpeg(catalogue, slide_id, services.thumbnails)
        return Response(data, media_type="image/jpeg", headers=_caching(request, catalogue.info(slide_id)))

    @router.get("/slides/{slide_id}/picture/{name}")
    def picture(request: Request, slide_id: str, name: str) -> Response:
        with catalogue.borrow(slide_id) as opened:
            pictures = opened.associated()
        if name not in _ASSOCIATED or name not in pictures:
            raise NotFoundError(f"this slide has no {name[:20]!r} picture")
        data = images.jpeg(pictures[name])
        return Response(data, media_type="image/jpeg", headers=_caching(request, catalogue.info(slide_id)))

    return router


def deep_zoom(info: SlideInfo) -> DeepZoom:
    """The tile geometry that slide and overlays share."""
    return DeepZoom(info.width_l0, info.height_l0)


def tile_address(info: SlideInfo, level: int, col: int, row: int) -> tuple[Any, tuple[int, int]]:
    """Region and pixel size of a tile.

    Raises:
        NotFoundError: the slide has no such tile.
    """
    try:
        if max(level, col, row) > _LARGEST_INDEX:
            raise ConfigError("there is no tile so far out")
        return deep_zoom(info).tile(level, col, row)
    except ConfigError as error:
        raise NotFoundError(str(error)) from error


def _entry(file: SlideFile, found: SlideInfo | LpdError | None) -> dict[str, Any]:
    if isinstance(found, SlideInfo):
        return _details(found)
    entry: dict[str, Any] = {"id": file.id, "name": file.name, "relative": file.relative, "status": "unread"}
    return entry if found is None else {**entry, "status": "error", "error": str(found)}


def _details(info: SlideInfo) -> dict[str, Any]:
    slide_id, version = info.file.id, info.fingerprint
    return {
        "id": slide_id,
        "name": info.file.name,
        "relative": info.file.relative,
        "status": "ok",
        "width": info.width_l0,
        "height": info.height_l0,
        "mpp": info.mpp,
        "mpp_origin": info.mpp_origin,
        "vendor": info.vendor,
        "objective": info.objective,
        "synthetic": info.synthetic,
        "fingerprint": version,
        "size_bytes": info.file.size,
        "tile_px": deep_zoom(info).tile_px,
        "levels": deep_zoom(info).level_count,
        "dzi": f"/slides/{slide_id}.dzi",
        "tiles": f"/slides/{slide_id}_files",
        "thumbnail": f"/slides/{slide_id}/thumbnail?f={version}",
    }


def _is_fresh(request: Request, info: SlideInfo) -> bool:
    return request.headers.get("if-none-match") == _etag(info)


def _etag(info: SlideInfo) -> str:
    return f'"{info.fingerprint}"'


def _caching(request: Request, info: SlideInfo) -> dict[str, str]:
    # An address that carries the fingerprint goes on meaning the same file; any other must be asked for again.
    forever = request.query_params.get("f") == info.fingerprint
    return {"Cache-Control": _FOREVER if forever else "private, no-cache", "ETag": _etag(info)}
