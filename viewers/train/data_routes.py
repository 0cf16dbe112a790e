"""Routes of data sets: the list, labels, tiles by class, findings, and a synthetic one to try with."""

from __future__ import annotations

import io
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from PIL import Image

from lpd.errors import LpdError
from viewers.errors import NotFoundError
from viewers.train.datasets import describe, label_counts, tile_file
from viewers.train.room import TrainingRoom

_TILE_PX = 160
_LARGEST_PX = 4096 * 4096
_A_DAY = {"Cache-Control": "private, max-age=86400"}


def data_router(room: TrainingRoom) -> APIRouter:
    """``/api/datasets`` and ``/datasets``."""
    router = APIRouter()

    @router.get("/api/datasets")
    def listing() -> dict[str, Any]:
        return {"data": [describe(data) for data in room.data_sets.all()], "phantom": room.maker.state()}

    @router.post("/api/datasets/phantom", status_code=202)
    def make_phantom() -> dict[str, Any]:
        room.maker.start()
        return room.maker.state()

    @router.get("/api/datasets/{data_id}")
    def one(data_id: str, seed: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> dict[str, Any]:
        data = room.data_sets.get(data_id)
        said = describe(data)
        said["labels"], said["samples"] = {}, {}
        if "error" in said:
            return said
        for split in said["splits"]:
            try:
                said["labels"][split] = label_counts(room.data_sets.tiles(data, split))
            except NotFoundError:
                raise
            except LpdError as error:
                said["error"] = str(error).replace(str(data.path), data.relative)
        if "train" in said["labels"]:
            said["samples"] = room.data_sets.samples(data, 6, seed)
            said["version"] = room.data_sets.version(data)
        return said

    @router.get("/api/datasets/{data_id}/check")
    def check(data_id: str) -> dict[str, Any]:
        return room.checks.ask(room.data_sets.get(data_id))

    @router.get("/datasets/{data_id}/tiles/{split}/{number}.jpeg")
    def tile(data_id: str, split: str, number: int) -> Response:
        tiles = room.data_sets.tiles(room.data_sets.get(data_id), split)
        path = tile_file(tiles, number).image
        try:
            with Image.open(path) as image:
                if image.width * image.height > _LARGEST_PX:
                    raise LpdError(f"{path.name} is too large for a tile")
                small = image.convert("RGB")
                small.thumbnail((_TILE_PX, _TILE_PX))
        except (OSError, ValueError, SyntaxError) as error:
            raise LpdError(f"{path.name} cannot be read as an image") from error
        out = io.BytesIO()
        small.save(out, "JPEG", quality=88)
        return Response(out.getvalue(), media_type="image/jpeg", headers=_A_DAY)

    return router
