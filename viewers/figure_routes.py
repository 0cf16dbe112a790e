"""Routes of figures for papers: one place, usage and pairs, counterparts, prototypes in a plane; PNG, SVG, PDF."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Literal

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Response
from matplotlib.figure import Figure

from lpd.errors import LpdError
from lpd.explain.drawing import figure_bytes
from lpd.explain.inspecting_store import inspect_slide, tile_box
from lpd.explain.inspection_figure import draw_inspection
from lpd.explain.matching import match
from lpd.explain.plots import plot_figures, plot_matching
from viewers.commands import run_command, scratch
from viewers.prototype_results import Over, PrototypeResults
from viewers.turns import in_turn, stop_if_abandoned

Kind = Literal["png", "svg", "pdf"]
MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
#: Of pictures for the screen; those that are saved have the resolution of print.
SCREEN_DPI = 110
#: Figures drawn at a time; they take a core each.
_DRAWN = 2
_Point = Annotated[float, Query(ge=0, le=2**31, allow_inf_nan=False)]
_Beside = Annotated[list[str], Query(max_length=1)]
_Examples = Annotated[list[str], Query(max_length=2)]
Models = Annotated[list[str], Query(min_length=1, max_length=2)]
#: Of the files that the models shall be; any where none is given.
Digests = Annotated[Sequence[str], Query(max_length=2)]


def figure_router(results: PrototypeResults) -> APIRouter:
    """Figures of results below ``/results/{id}/prototypes``, of pairs and models below ``/api``."""
    router, services = APIRouter(), results.services
    drawn, commanded = in_turn(CapacityLimiter(_DRAWN)), in_turn(CapacityLimiter(1))

    @router.get("/results/{job_id}/prototypes/place.{kind}")
    @drawn
    def place(job_id: str, kind: Kind, x: _Point, y: _Point, beside: _Beside = [], save: bool = False) -> Response:  # noqa: B006
        with ExitStack() as stack:
            found = [stack.enter_context(results.opened(one)) for one in (job_id, *beside)]
            if len({one.job.slide_id for one in found}) > 1:
                raise LpdError("these results are of two slides: choose two of one slide")
            slide = stack.enter_context(services.catalogue.borrow(found[0].job.slide_id))
            box = tile_box(found[0].store, x, y)
            side = box.width * found[0].store.meta.scale
            boxes = [box, *(tile_box(one.store, x, y, side) for one in found[1:])]
            seen = [
                inspect_slide(one.store, slide, own, names=results.called(one))
                for one, own in zip(found, boxes, strict=True)
            ]
        stop_if_abandoned()
        return drawn_figure(draw_inspection(seen), kind, f"prototypes_{round(x)}_{round(y)}", save=save)

    @router.get("/results/{job_id}/prototypes/plot.{kind}")
    @drawn
    def plot(job_id: str, kind: Kind, beside: _Beside = [], over: Over = "slide", save: bool = False) -> Response:  # noqa: B006
        figures = []
        for one in (job_id, *beside):
            with results.opened_over(one, over) as found:
                figures.append((results.figures(found), found[0].store.meta.classes))
        return drawn_figure(plot_figures(figures), kind, "prototype-figures", save=save)

    @router.get("/api/matching/plot.{kind}")
    @drawn
    def pairs(left: str, right: str, kind: Kind, save: bool = False) -> Response:
        with results.opened(left) as one, results.opened(right) as other:
            found = results.once(("matching", *one.key, *other.key), lambda: match(one.store, other.store))
            figure = plot_matching(found, results.called(one), results.called(other))
        return drawn_figure(figure, kind, "prototype-counterparts", save=save)

    @router.get("/api/checkpoints/projection.{kind}")
    @commanded
    def projection(
        model: Models,
        kind: Kind,
        digest: Digests = (),
        example: _Examples = [],  # noqa: B006
        save: bool = False,
    ) -> Response:
        of = services.checkpoints
        asked = zip_longest(model, digest[: len(model)], fillvalue="")
        found = [of.same(name, own) if own else of.get(name) for name, own in asked]
        paths = list(dict.fromkeys(one.path for one in found))
        folders = [folder for one in dict.fromkeys(example) if (folder := _shown(one, paths)) is not None]
        with scratch(services.cache) as folder:
            out = folder / f"figure.{kind}"
            chosen = [word for path in paths for word in ("--checkpoint", path)]
            chosen += [word for one in folders for word in ("--examples", one)]
            dpi = [] if save or kind != "png" else ["--dpi", str(SCREEN_DPI)]
            run_command(services.jobs.command, ["prototypes", "figure", "--projection", *chosen, "--out", out, *dpi])
            content = out.read_bytes()
        return answer(content, kind, "prototypes-in-a-plane", save=save)

    def _shown(job_id: str, models: Sequence[Path]) -> Path | None:
        """Folder of a result whose places can stand for the prototypes of one of these very models."""
        with results.opened(job_id) as one, suppress(LpdError):
            if services.checkpoints.same(one.job.checkpoint, one.store.meta.checkpoint_digest).path in models:
                return one.store.folder
        return None

    return router


def answer(content: bytes, kind: str, name: str, *, save: bool) -> Response:
    """A figure to show, or to save under a name."""
    headers = {"Cache-Control": "no-store"}
    if save:
        headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return Response(content, media_type=MEDIA_TYPES[kind], headers=headers)


def drawn_figure(figure: Figure, kind: Kind, name: str, *, save: bool) -> Response:
    """The same of a figure that is still to be written; dropped if whoever asked has gone."""
    stop_if_abandoned()
    on_screen = kind == "png" and not save
    return answer(
        figure_bytes(figure, kind, SCREEN_DPI) if on_screen else figure_bytes(figure, kind), kind, name, save=save
    )
