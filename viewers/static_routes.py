"""Routes of the page's own files: our modules and style sheet, and OpenSeadragon from its cache folder."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from viewers.errors import NotFoundError

STATIC = Path(__file__).with_name("static")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@cache
def static_base() -> str:
    """Address of our files, relative to the page's; it changes with them, so that no browser keeps old ones."""
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in _own_files().values()))
    return f"app/{digest.hexdigest()[:12]}"


def openseadragon_url() -> str:
    """Address of the viewer library's script, relative to the page's."""
    return "openseadragon/openseadragon.js"


def static_router(openseadragon: Path) -> APIRouter:
    """Serves files by name from a fixed list; no path from a request reaches the disk.

    Args:
        openseadragon: folder with ``openseadragon.js``.
    """
    router = APIRouter()

    @router.get("/app/{version}/{name}")
    def own_file(version: str, name: str) -> FileResponse:
        path = _own_files().get(name)
        if path is None:
            raise NotFoundError(f"the page has no file {name[:60]!r}: reload the page")
        current = static_base().endswith(version)
        return FileResponse(
            path, media_type=_TYPES[path.suffix], headers=_FOREVER if current else {"Cache-Control": "no-store"}
        )

    @router.get("/" + openseadragon_url())
    def library() -> FileResponse:
        return FileResponse(openseadragon / "openseadragon.js", media_type="text/javascript", headers=_FOREVER)

    return router


@cache
def _own_files() -> dict[str, Path]:
    return {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}
