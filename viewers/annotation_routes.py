"""Routes of annotations: read, save, and take along as QuPath reads them."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import OutdatedError
from viewers.annotations import AnnotationFiles
from viewers.services import Services


class Drawn(BaseModel):
    """Body of a request to save: all features, and the revision that they were made from."""

    model_config = ConfigDict(extra="forbid")

    revision: int = Field(ge=0, le=2**53)
    features: list[dict[str, Any]]


def annotation_router(services: Services) -> APIRouter:
    """Everything under ``/api/slides/{id}/annotations``."""
    router = APIRouter()
    files = AnnotationFiles(services.jobs.folder / "annotations")

    @router.get("/api/slides/{slide_id}/annotations")
    def read(slide_id: str) -> dict[str, Any]:
        found = files.read(services.catalogue.info(slide_id).fingerprint)
        return {"revision": found.revision, "features": found.features}

    @router.put("/api/slides/{slide_id}/annotations")
    def save(slide_id: str, drawn: Drawn, f: str | None = None) -> dict[str, Any]:
        info = services.catalogue.info(slide_id)
        if f not in (None, info.fingerprint):
            raise OutdatedError(
                f"{info.file.name} has been replaced meanwhile, so what was drawn last is not saved: reload the page"
            )
        return {"revision": files.save(info.fingerprint, info.file.name, drawn.features, drawn.revision)}

    @router.get("/api/slides/{slide_id}/annotations.geojson")
    def download(slide_id: str) -> Response:
        info = services.catalogue.info(slide_id)
        found = files.read(info.fingerprint)
        document = {"type": "FeatureCollection", "features": found.features}
        name = PurePosixPath(info.file.name).stem.encode("ascii", "replace").decode().replace('"', "_")
        headers = {
            "Content-Disposition": f'attachment; filename="{name}-annotations.geojson"',
            "Cache-Control": "no-store",
        }
        return Response(json.dumps(document), media_type="application/geo+json", headers=headers)

    return router
