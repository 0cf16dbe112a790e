"""Routes of jobs and their results: start, watch, cancel, what is new, areas, downloads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError, ResultError
from lpd.inference.changes import CHANGES_NAME
from lpd.slide.region import Region
from viewers import checkpoints, jobs
from viewers.annotations import check_features
from viewers.asked_before import obtain
from viewers.errors import NotFoundError, NotReadyError
from viewers.gate import visitor
from viewers.jobs import Job, JobRequest
from viewers.report_routes import describe_ratio
from viewers.services import Services

_AREAS = "areas.csv"
#: Download kind -> file in the result folder, ending of the name it is saved under, media type.
_DOWNLOADS: dict[str, tuple[str, str, str]] = {
    "geojson": ("annotations.geojson", "geojson", "application/geo+json"),
    "ome-tiff": ("mask.ome.tif", "ome.tif", "image/tiff"),
    "csv": (_AREAS, "csv", "text/csv"),
    "png": ("snapshot.png", "png", "image/png"),
    "manifest": ("manifest.json", "json", "application/json"),
}
_Pixel = Annotated[int, Field(ge=-(2**31), le=2**31)]
_Place = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]
_MOST_POLYGONS = 1000


class NewJob(BaseModel):
    """Body of a request to segment a slide, a region (x, y, width, height in level-0 pixels) of it, or polygons (closed
    rings of points, as in a GeoJSON MultiPolygon), with or without the map of every prototype; ``anew`` also where that
    has been done before."""

    model_config = ConfigDict(extra="forbid")

    slide: str
    checkpoint: str
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    region: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | None = None
    polygons: list[list[list[tuple[_Place, _Place]]]] = Field(default=[], max_length=_MOST_POLYGONS)
    prototype_maps: bool = False
    anew: bool = False


def result_router(services: Services) -> APIRouter:
    """Everything under ``/api/jobs``, ``/api/checkpoints`` and ``/results``."""
    router = APIRouter()

    @router.get("/api/checkpoints")
    def models() -> dict[str, Any]:
        found = services.checkpoints.all()
        return {"folder": str(services.checkpoints.folder), "checkpoints": [checkpoints.describe(c) for c in found]}

    @router.get("/api/jobs")
    def listing(slide: str | None = None, going: bool = False) -> dict[str, Any]:
        found = services.index.all()
        queue = services.queue(found)
        wanted = [job for job in found if slide in (None, job.slide_id) and not (going and job.run.ended)]
        return {"jobs": [_describe(services, job, queue) for job in wanted]}

    @router.post("/api/jobs", status_code=201)
    def start(request: Request, response: Response, new: NewJob) -> dict[str, Any]:
        services.catalogue.files()  # so that a file that was replaced is known to be another slide
        asked = _request(services, new, visitor(request).name)
        fingerprint = services.catalogue.info(new.slide).fingerprint
        job, found = obtain(services.jobs, asked, fingerprint, anew=new.anew)
        if found == "there":
            response.status_code = 200
        else:
            response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/jobs/{job.id}"
        return _describe(services, job) | {"found": found}

    @router.get("/api/jobs/{job_id}")
    def job(job_id: str) -> dict[str, Any]:
        return _describe(services, services.jobs.get(job_id))

    @router.post("/api/jobs/{job_id}/cancel")
    def cancel(request: Request, job_id: str) -> dict[str, Any]:
        visitor(request).require_may_cancel(services.jobs.get(job_id).user)
        return _describe(services, services.jobs.cancel(job_id))

    @router.get("/results/{job_id}/changes")
    def changes(job_id: str, since: Annotated[int, Query(ge=0)] = 0, run: str = "") -> dict[str, Any]:
        found = services.jobs.get(job_id)
        answer: dict[str, Any] = {"run": "", "revision": 0, "rects": [], "job": _describe(services, found)}
        if answer["job"]["has_mask"]:
            with services.result(found) as store:
                new = store.changes(since, run)
            rects = [[r.x_l0, r.y_l0, r.width_l0, r.height_l0] for r in new.rects]
            answer |= {"run": new.run, "revision": new.revision, "rects": rects}
        return answer

    @router.get("/results/{job_id}/areas")
    def areas(job_id: str) -> dict[str, Any]:
        found = services.jobs.get(job_id)
        rows = _read_areas(_file(found, "csv"))
        with services.result(found) as store:
            classes = store.meta.classes
        by_code = {row["code"]: row["area_mm2"] for row in rows}
        ratio = describe_ratio(classes, [by_code.get(code, 0.0) for code in classes.codes])
        return {"areas": rows, "ratio": ratio}

    @router.get("/results/{job_id}/download/{kind}")
    def download(job_id: str, kind: str) -> FileResponse:
        found = services.jobs.get(job_id)
        path = _snapshot(services, found) if kind == "png" else _file(found, kind)
        _, ending, media_type = _DOWNLOADS[kind]
        name = f"{Path(found.slide_name).stem}-{found.checkpoint}.{ending}"
        return FileResponse(path, media_type=media_type, filename=name, headers={"Cache-Control": "no-store"})

    return router


def _request(services: Services, new: NewJob, user: str) -> JobRequest:
    """Turn names into files, and refuse what cannot work before a process is started."""
    info = services.catalogue.info(new.slide)
    checkpoint = services.checkpoints.get(new.checkpoint)
    if info.mpp is None:
        raise LpdError(f"{info.file.name} does not say its resolution: enter the size of one pixel in µm first")
    region = None
    if new.polygons:
        polygons = [{"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": new.polygons}}]
        check_features(polygons)
    if new.region is not None:
        inside = Region(*new.region).clipped(info.width_l0, info.height_l0)
        if inside is None:
            raise LpdError("the view shows no part of the slide: move the slide into view first")
        region = (inside.x_l0, inside.y_l0, inside.width_l0, inside.height_l0)
    mpp = info.mpp if info.mpp_origin == "given" else None
    wanted = (checkpoint.path, new.device, mpp, region, user, new.polygons, new.prototype_maps)
    return JobRequest(new.slide, info.file.path, *wanted)


def _describe(services: Services, job: Job, queue: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A job with its result as plain JSON; ``scale`` is level-0 pixels per mask pixel.

    ``queue_position`` is 1 for the next in the line for its ``device``, None for a job that does not wait; ``queue`` is
    asked for if not given.
    """
    if queue is None:
        queue = services.queue() if job.run.state == "queued" else {}
    described = services.index.said_once(job, lambda: _describe_result(services, job))
    described["queue_position"] = queue.get(job.id)
    if described["has_mask"] and not _fits(services, job, described.pop("fingerprint")):
        described |= {"has_mask": False, "prototypes": None}
        described |= {"message": "The slide file has been replaced since: segment it again."}
        described["downloads"] = [kind for kind in described["downloads"] if kind != "png"]
    return described


def _describe_result(services: Services, job: Job) -> dict[str, Any]:
    """What does not depend on other jobs, nor on the slide's file; ``fingerprint`` is that of the slide segmented."""
    described = jobs.describe(job) | {"has_mask": False, "classes": [], "notice": "", "scale": None, "downloads": []}
    described["prototypes"] = None
    if services.has_mask(job):
        with services.result(job) as store:
            meta, kept = store.meta, store.prototypes
        if kept is not None:
            described["prototypes"] = {"per_class": kept.maps.per_class, "count": kept.maps.count}
        described |= {"has_mask": True, "notice": meta.notice, "scale": meta.scale}
        described |= {"classes": checkpoints.describe_classes(meta.classes), "fingerprint": meta.slide_fingerprint}
    if job.run.ended:
        made = {kind for kind, (name, _, _) in _DOWNLOADS.items() if (job.run_folder / name).is_file()}
        made |= {"png"} if described["has_mask"] else set()  # drawn when asked for
        described["downloads"] = [kind for kind in _DOWNLOADS if kind in made]
    return described


def _fits(services: Services, job: Job, fingerprint: str) -> bool:
    """False if the slide's file is another one now, over which the mask would lie wrongly.

    Of a slide that is away or was never opened nothing is known; whoever asks for its tiles will hear.
    """
    info = services.catalogue.known_info(job.slide_id)
    return info is None or info.fingerprint == fingerprint


def _snapshot(services: Services, job: Job) -> Path:
    """The picture of a finished result, drawn when it is first asked for."""
    from lpd.export.snapshot import write_snapshot  # brings in Matplotlib, which nothing else here needs

    path = job.run_folder / _DOWNLOADS["png"][0]
    if not job.run.ended:
        raise NotReadyError(f"result {job.id} has no picture yet: it can be drawn when the work is done")
    if not _is_newer(path, job.run_folder / CHANGES_NAME):
        with services.result(job) as store, services.catalogue.borrow(job.slide_id) as slide:
            write_snapshot(slide, store, path)
    return path


def _is_newer(path: Path, than: Path) -> bool:
    """False if there is no such file yet, or it was made before the mask had come to its end."""
    try:
        return path.stat().st_mtime_ns >= than.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _file(job: Job, kind: str) -> Path:
    if kind not in _DOWNLOADS:
        raise NotFoundError(f"there is no download {kind[:20]!r}: it is one of {', '.join(_DOWNLOADS)}")
    path = job.run_folder / _DOWNLOADS[kind][0]
    if not path.is_file():
        raise NotReadyError(f"result {job.id} has no {kind} file yet: it is written when the work is done")
    return path


def _read_areas(path: Path) -> list[dict[str, Any]]:
    """Rows of the table that the command wrote, all tissue last."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            {
                "code": row["code"],
                "name": row["name"],
                "area_mm2": float(row["area_mm2"]),
                "percent": float(row["percent_of_tissue"]),
            }
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ResultError(
            f"the table of areas of {path.parent.name} cannot be read: segment the slide again"
        ) from error
