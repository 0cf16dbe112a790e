"""Routes of areas inside of drawn regions, and of the report of a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lpd.classes import ClassScheme
from lpd.errors import ConfigError, LpdError, ResultError
from lpd.export.areas import Tally
from lpd.export.region_areas import tally_inside
from lpd.export.report import ReportParts, make_report
from lpd.export.source import MaskSource
from lpd.export.tumour_stroma import in_words, tumour_stroma, why_no_ratio
from lpd.inference.manifest_file import read_manifest
from lpd.inference.store import ResultStore
from lpd.review.sources import CorrectedMask, with_corrections
from lpd.slide.annotations import DrawnRegion, is_area, region_of
from viewers.annotations import AnnotationFiles
from viewers.errors import NotFoundError, NotReadyError
from viewers.gate import visitor
from viewers.jobs import Job
from viewers.services import Services

_Place = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]
_MOST_POLYGONS, _MOST_CORNERS = 1000, 200_000


class Drawn(BaseModel):
    """Body of a request for areas: polygons as in a GeoJSON MultiPolygon, level-0 pixels; of the model's own mask, or
    of that with people's corrections in it."""

    model_config = ConfigDict(extra="forbid")

    polygons: list[list[list[tuple[_Place, _Place]]]] = Field(min_length=1, max_length=_MOST_POLYGONS)
    corrected: bool = False


def report_router(services: Services) -> APIRouter:
    """``/results/{id}/region-areas`` and ``/results/{id}/report.html``."""
    router = APIRouter()
    drawn_files = AnnotationFiles(services.jobs.folder / "annotations")

    @router.post("/results/{job_id}/region-areas")
    def region_areas(job_id: str, drawn: Drawn) -> dict[str, Any]:
        corners = sum(len(ring) for rings in drawn.polygons for ring in rings)
        if corners > _MOST_CORNERS:
            raise ConfigError(f"the region has {corners} corners, more than {_MOST_CORNERS}: draw it simpler")
        region = region_of({"type": "MultiPolygon", "coordinates": drawn.polygons}, source="the request")
        found = services.jobs.get(job_id)
        if drawn.corrected:
            with services.reviews.of(found) as review:
                revision = review.refresh()
                tally = tally_inside(CorrectedMask(review, noted=False), region.polygons)
                return describe_tally(tally, review.store.meta.classes) | {"revision": revision}
        with services.result(found) as store:
            return describe_tally(tally_inside(store, region.polygons), store.meta.classes)

    @router.get("/results/{job_id}/report.html")
    def report(request: Request, job_id: str) -> Response:
        found = services.jobs.get(job_id)
        if not found.run.ended:
            raise NotReadyError(f"result {job_id} has no report yet: it can be made when the work is done")
        with services.result(found) as store:
            source, said = _reviewed(services, found, store)
            parts = ReportParts(
                manifest=read_manifest(found.run_folder),
                checkpoint=_checkpoint(services, store.meta.checkpoint_name),
                regions=_named_regions(drawn_files, store.meta.slide_fingerprint),
                review=said,
                unfinished="" if store.changes().complete else "was not finished",
                author=visitor(request).name,
            )
            text = _with_slide(services, found, source, parts)
        name = quote(f"{Path(found.slide_name).stem}-{found.checkpoint}-report.html", safe="")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return router


def describe_tally(found: Tally, classes: ClassScheme) -> dict[str, Any]:
    """Areas as plain JSON: classes in mask order and all tissue, what is no tissue, tumour and stroma in words."""
    rows = [
        {"code": r.code, "name": r.name, "area_mm2": r.area_mm2, "percent": r.percent_of_tissue} for r in found.classes
    ]
    whole = 100.0 if found.tissue_mm2 else 0.0
    total = {"code": "TISSUE", "name": "All tissue", "area_mm2": found.tissue_mm2, "percent": whole}
    return {
        "areas": [*rows, total],
        "area_mm2": found.area_mm2,
        "computed_percent": found.computed_percent,
        "ratio": describe_ratio(classes, [r.area_mm2 for r in found.classes]),
    }


def describe_ratio(classes: ClassScheme, areas_mm2: list[float]) -> str:
    """The tumour/stroma ratio of areas by class in words, or why there is none."""
    found = tumour_stroma(classes, areas_mm2)
    return in_words(found) if found else f"none: {why_no_ratio(classes)}"


def _reviewed(services: Services, job: Job, store: ResultStore) -> tuple[MaskSource, str]:
    """The mask with what people have said in it, and how far they have come; a damaged review takes no report away."""
    try:
        with services.reviews.of(job) as review:
            review.refresh()
            return CorrectedMask(review, noted=False), with_corrections(review.status())
    except ResultError as error:
        return store, f"The review cannot be read, so all figures are the model's own ({error})."


def _with_slide(services: Services, job: Job, store: MaskSource, parts: ReportParts) -> str:
    """The report with pictures of the slide, if it is still there."""
    try:
        borrowed = services.catalogue.borrow(job.slide_id)
    except LpdError:
        return make_report(store, parts)
    with borrowed as slide:
        return make_report(store, replace(parts, slide=slide))


def _checkpoint(services: Services, name: str) -> Path | None:
    try:
        return services.checkpoints.get(name).path
    except NotFoundError:
        return None


def _named_regions(files: AnnotationFiles, fingerprint: str) -> tuple[DrawnRegion, ...]:
    """The areas on a slide that somebody gave a name; those that enclose nothing are left out."""
    return tuple(_named(files.read(fingerprint).features))


def _named(features: Any) -> Iterator[DrawnRegion]:
    for number, feature in enumerate(features, 1):
        try:
            found = region_of(feature, number) if is_area(feature) else None
        except ConfigError:
            continue
        if found and found.name.strip():
            yield found
