"""Routes of label sets: begin one, tick tiles, what to look at next, and a tile set made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from lpd.classes import ClassScheme, TissueClass
from lpd.errors import ConfigError, OutdatedError
from lpd.labelling.appearance import LEAST_TISSUE
from lpd.labelling.grid import Cell, TileGrid
from lpd.labelling.labelling import NO_NAME, Labelling, Tick, Wish
from lpd.labelling.log import MOST_CELLS, LabelScheme
from lpd.labelling.proposing import propose
from lpd.labelling.splitting import Plan
from lpd.slide.annotations import region_of
from viewers.checkpoints import describe_classes
from viewers.errors import NotFoundError
from viewers.gate import visitor
from viewers.label_exports import ExportWish, LabelExports
from viewers.labellings import as_labelled
from viewers.services import Services
from viewers.turns import in_turn

_Place = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]
_Number = Annotated[int, Field(ge=0, le=100_000)]
_Cells = list[tuple[_Number, _Number]]
_Colour = Annotated[int, Field(ge=0, le=255)]
_MOST_POLYGONS, _MOST_CORNERS, _MOST_SKIPPED = 1000, 200_000, 5000
_Revision = Annotated[int, Field(ge=0, le=2**53)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewClass(_Body):
    """A class typed in anew; colours are red, green, blue."""

    code: str = Field(min_length=1, max_length=12, pattern=r"^[A-Za-z0-9_-]+$")
    name: str = Field(min_length=1, max_length=60)
    color: tuple[_Colour, _Colour, _Colour]


class NewSet(_Body):
    """Body of a request to begin a label set, with classes and resolution of a model unless others are named."""

    name: str = Field(max_length=100)
    checkpoint: str | None = None
    classes: list[NewClass] | None = Field(default=None, min_length=1, max_length=24)
    mpp: float | None = Field(default=None, allow_inf_nan=False)
    tile_px: int = 224


class NewTicks(_Body):
    """Body of a request to say something of tiles, having seen ``revision``; of this very file if ``fingerprint``."""

    slide: str
    fingerprint: str | None = None
    revision: _Revision
    kind: Literal["set", "add", "remove", "clear"]
    cells: _Cells = Field(min_length=1, max_length=MOST_CELLS)
    classes: list[str] = Field(default=[], max_length=254)
    proposed: str = Field(default="", max_length=200)


class Seen(_Body):
    """Of which slide changes are wanted, and up to which revision they have been seen."""

    slide: str
    revision: _Revision


class Drawn(_Body):
    """Polygons as in a GeoJSON MultiPolygon, level-0 pixels."""

    slide: str
    polygons: list[list[list[tuple[_Place, _Place]]]] = Field(min_length=1, max_length=_MOST_POLYGONS)


class Looking(_Body):
    """Whoever wants to know what to look at next: what they left unlabelled, and by which result they have doubt."""

    slide: str
    job: str | None = None
    count: int = Field(default=8, ge=1, le=50)
    skipped: _Cells = Field(default=[], max_length=_MOST_SKIPPED)


class NewExport(_Body):
    """Body of a request for a tile set; ``hold_out`` as fingerprints of slides, null for the rule."""

    name: str = Field(max_length=100)
    hold_out: list[str] | None = Field(default=None, max_length=1000)
    licence: str = Field(default="not stated", min_length=1, max_length=200)
    replace: bool = False


def label_router(services: Services) -> APIRouter:
    """Everything under ``/api/labels``."""
    router = APIRouter()
    sets, catalogue, exports = services.labellings, services.catalogue, LabelExports(services)
    heavy = in_turn(CapacityLimiter(2))

    @router.get("/api/labels")
    def listed() -> dict[str, Any]:
        return {"sets": [_brief(one) for one in sets.all()]}

    @router.post("/api/labels", status_code=201)
    def begin(request: Request, new: NewSet) -> dict[str, Any]:
        return _brief(sets.create(_scheme(services, new, _author(request))))

    @router.get("/api/labels/{labels_id}")
    def status(
        request: Request, labels_id: str, slide: str, since: Annotated[_Revision, Query()] = 0
    ) -> dict[str, Any]:
        return _describe(services, sets.get(labels_id), slide, since, _author(request))

    @router.post("/api/labels/{labels_id}/edit")
    def edit(request: Request, labels_id: str, new: NewTicks) -> dict[str, Any]:
        labelling, author = sets.get(labels_id), _author(request)
        slide = as_labelled(catalogue.info(new.slide))
        if new.fingerprint not in (None, slide.fingerprint):
            raise OutdatedError(
                f"the file of {slide.name} has been replaced meanwhile, so what was ticked last is not saved: "
                "reload the page"
            )
        cells, classes = tuple(new.cells), tuple(new.classes)
        labelling.edit(author, Wish(slide, cells, new.kind, classes, new.proposed, new.revision))
        return _describe(services, labelling, new.slide, new.revision, author)

    @router.post("/api/labels/{labels_id}/undo")
    def undo(request: Request, labels_id: str, seen: Seen) -> dict[str, Any]:
        labelling, author = sets.get(labels_id), _author(request)
        undone = labelling.undo(author)
        answer = _describe(services, labelling, seen.slide, seen.revision, author)
        here = undone.slide == catalogue.info(seen.slide).fingerprint
        return answer | {"undone": undone.cells[0] if here else None, "elsewhere": not here}

    @router.post("/api/labels/{labels_id}/inside")
    @heavy
    def inside(labels_id: str, drawn: Drawn) -> dict[str, Any]:
        corners = sum(len(ring) for rings in drawn.polygons for ring in rings)
        if corners > _MOST_CORNERS:
            raise ConfigError(f"the region has {corners} corners, more than {_MOST_CORNERS}: draw it simpler")
        info = catalogue.info(drawn.slide)
        grid = sets.get(labels_id).grid(as_labelled(info))
        region = region_of({"type": "MultiPolygon", "coordinates": drawn.polygons}, source="the request")
        found = grid.inside(region.polygons)
        tissue = sets.looks(catalogue, info, grid).tissue
        cells = [cell for cell in found if tissue[cell[1], cell[0]] >= LEAST_TISSUE]
        if len(cells) > MOST_CELLS:
            raise ConfigError(f"{len(cells):,} tiles at once are more than {MOST_CELLS:,}: take a smaller region")
        return {"cells": cells, "glass": len(found) - len(cells)}

    @router.post("/api/labels/{labels_id}/proposals")
    @heavy
    def proposals(labels_id: str, looking: Looking) -> dict[str, Any]:
        labelling, info = sets.get(labels_id), catalogue.info(looking.slide)
        grid = labelling.grid(as_labelled(info))
        looks = sets.looks(catalogue, info, grid)
        doubt = None
        if looking.job is not None:
            job = services.jobs.get(looking.job)
            if job.slide_id != looking.slide:
                raise NotFoundError(f"result {job.id} is of another slide: reload the page")
            with services.result(job) as store:
                doubt = sets.doubt(store, grid)
        found = propose(looks, labelling.tiles(info.fingerprint), doubt, looking.count, skipped=looking.skipped)
        entries = [{"cell": one.cell, "by": one.by, "reason": one.reason} for one in found]
        return {"proposals": entries, "candidates": len(looks.cells)}

    @router.get("/api/labels/{labels_id}/plan")
    @heavy
    def plan(
        labels_id: str, hold_out: Annotated[list[str] | None, Query(max_length=1000)] = None, none: bool = False
    ) -> dict[str, Any]:
        labelling = sets.get(labels_id)
        plan = exports.plan(labelling, [] if none else hold_out)
        return _describe_plan(plan) | {"going": exports.going(labelling)}

    @router.post("/api/labels/{labels_id}/exports", status_code=202)
    @heavy
    def export(request: Request, labels_id: str, new: NewExport) -> dict[str, Any]:
        labelling = sets.get(labels_id)
        author = visitor(request).name
        wish = ExportWish(new.name, new.hold_out, new.licence, new.replace, author)
        return exports.describe(labelling, exports.start(labelling, wish))

    @router.get("/api/labels/{labels_id}/exports/{export_id}")
    def how_far(labels_id: str, export_id: str) -> dict[str, Any]:
        return exports.describe(sets.get(labels_id), export_id)

    @router.post("/api/labels/{labels_id}/exports/{export_id}/stop")
    def stop(labels_id: str, export_id: str) -> dict[str, Any]:
        labelling = sets.get(labels_id)
        exports.stop(labelling, export_id)
        return exports.describe(labelling, export_id)

    return router


def _author(request: Request) -> str:
    return visitor(request).name or NO_NAME


def _scheme(services: Services, new: NewSet, author: str) -> LabelScheme:
    model = services.checkpoints.get(new.checkpoint) if new.checkpoint is not None else None
    if new.classes is not None:
        classes = ClassScheme(tuple(TissueClass(c.code, c.name, c.color) for c in new.classes))
    elif model is not None:
        classes = model.classes
    else:
        raise ConfigError("a label set needs classes: take those of a model, or type them in")
    mpp = new.mpp if new.mpp is not None else model.input.mpp if model is not None else None
    if mpp is None:
        raise ConfigError("a label set needs the µm per pixel of its tiles: 0.5 to 1 is usual")
    return LabelScheme(new.name.strip(), classes, mpp, new.tile_px, author)


def _brief(one: Labelling | tuple[str, str]) -> dict[str, Any]:
    if isinstance(one, tuple):
        return {"id": one[0], "error": one[1]}
    scheme, tiles = one.scheme, [counts["tiles"] for counts in one.counts().values()]
    return {
        "id": one.id,
        "name": scheme.name,
        "classes": describe_classes(scheme.classes)[:-1],
        "mpp": scheme.mpp,
        "tile_px": scheme.tile_px,
        "created": scheme.created,
        "author": scheme.author,
        "slides": sum(1 for count in tiles if count),
        "tiles": sum(tiles),
    }


def _describe(services: Services, labelling: Labelling, slide_id: str, since: int, author: str) -> dict[str, Any]:
    """A label set as plain JSON; ``slide.tiles`` what changed on one slide after revision ``since``: column, row, and
    numbers of the classes, or null where there is no label any more."""
    info = services.catalogue.info(slide_id)
    slide = as_labelled(info)
    grid = labelling.grid(slide)
    counts, mine = labelling.counts(), labelling.last_of(author)
    total = {key: sum(own[key] for own in counts.values()) for key in (*labelling.scheme.classes.codes, "", "tiles")}
    here = counts.get(info.fingerprint, dict.fromkeys(total, 0))
    return _brief(labelling) | {
        "revision": labelling.refresh(),
        "counts": _listed(total, labelling),
        "me": author,
        "mine": {"kind": mine.kind, "time": mine.time} if mine else None,
        "slide": {
            **_describe_grid(grid),
            "counts": _listed(here, labelling),
            "tiles": _tiles(labelling.changed(info.fingerprint, since), labelling),
        },
    }


def _listed(counts: Mapping[str, int], labelling: Labelling) -> dict[str, Any]:
    by_class = [counts[code] for code in labelling.scheme.classes.codes]
    return {"classes": by_class, "none": counts[""], "tiles": counts["tiles"]}


def _describe_grid(grid: TileGrid) -> dict[str, Any]:
    return {"step": grid.step_l0, "side": grid.tile_side_l0, "columns": grid.columns, "rows": grid.rows}


def _tiles(changed: Mapping[Cell, Tick | None], labelling: Labelling) -> list[list[Any]]:
    numbers = {code: number for number, code in enumerate(labelling.scheme.classes.codes)}
    return [
        [*cell, None if tick is None else [numbers[code] for code in tick.classes]] for cell, tick in changed.items()
    ]


def _describe_plan(plan: Plan) -> dict[str, Any]:
    return {
        "train": plan.train,
        "valid": plan.valid,
        "classes": [{"code": c.code, "name": c.name, "tiles": plan.counts[c.code]} for c in plan.classes.classes]
        if plan.classes
        else [],
        "none": plan.counts[""],
        "problem": plan.problem,
        "notes": plan.notes,
        "slides": [
            {
                "fingerprint": part.slide.fingerprint,
                "name": part.slide.name,
                "tiles": len(part.ticks),
                "scored": len(part.scored),
                "held_out": part.held_out,
            }
            for part in plan.parts
        ],
    }
