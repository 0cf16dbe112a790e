"""``python -m benchmarks.tiles.peer SLIDE PORT``: what others serve: DeepZoomGenerator's tiles; and mere bytes."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import openslide
import uvicorn
from fastapi import FastAPI, Response
from openslide.deepzoom import DeepZoomGenerator

from lpd.slide.deepzoom import DeepZoom
from lpd.slide.opening import open_slide


def peer(path: Path) -> FastAPI:
    """``/generated``: a handle a thread, encoded by Pillow. ``/raw``: the file's own bytes of one tile, always."""
    app = FastAPI()
    own = threading.local()
    with open_slide(path) as slide:
        zoom = DeepZoom(slide.width_l0, slide.height_l0)
        raw = slide.stored_jpeg(*zoom.tile(zoom.level_count - 1, 1, 1)) or b""

    @app.get("/generated/{level}/{col}_{row}.jpeg")
    def generated(level: int, col: int, row: int) -> Response:
        if not hasattr(own, "generator"):
            own.generator = DeepZoomGenerator(openslide.OpenSlide(path), 256, 0)
        buffer = io.BytesIO()
        own.generator.get_tile(level, (col, row)).save(buffer, "JPEG", quality=82)
        return Response(buffer.getvalue(), media_type="image/jpeg")

    @app.get("/raw/{level}/{col}_{row}.jpeg")
    def own_bytes(level: int, col: int, row: int) -> Response:
        return Response(raw, media_type="image/jpeg")

    return app


if __name__ == "__main__":
    uvicorn.run(peer(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning", access_log=False)
