"""Prototypes over data sets: figures of merit and gallery of a split, one of its tiles as a figure, by the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from lpd.data.dataset_info import FILE_NAME
from lpd.data.tiles import TileSet
from lpd.errors import LpdError
from lpd.explain.definitions import DEFINITIONS
from lpd.explain.plots import plot_data_figures
from lpd.model.header import CheckpointInfo
from viewers.checkpoints import digest_once
from viewers.commands import run_command, scratch
from viewers.data_passes import DataPasses, Work
from viewers.errors import NotReadyError
from viewers.figure_routes import SCREEN_DPI, Digests, Kind, Models, answer, drawn_figure
from viewers.services import Services
from viewers.train.datasets import DataSet, DataSets, tile_file
from viewers.turns import AbandonedError, in_turn

_FOLDER, _RUNS = "data-prototypes", "data-passes"
#: Answers kept; the oldest are deleted.
_KEPT = 64
#: Of what the command writes; others are made anew.
_VERSION = 3
_Number = Annotated[int, Query(ge=0, lt=2**31)]
_Who = Annotated[str, Query(max_length=40)]


def data_prototype_router(services: Services, data_sets: DataSets) -> APIRouter:
    """``/api/datasets/{id}/prototypes`` and ``/api/datasets/{id}/figure``."""
    router, passes = APIRouter(), DataPasses()
    drawn = in_turn(CapacityLimiter(1))

    @router.get("/api/datasets/{data_id}/prototypes", response_model=None)
    def prototypes(
        data_id: str, split: str, model: str, digest: str = "", who: _Who = ""
    ) -> dict[str, Any] | JSONResponse:
        data, tiles, found = _asked(data_id, split, model, digest)
        key = (data_id, split, model)
        if (far := passes.look(key, who)) is not None:
            return JSONResponse({"progress": far}, 202)
        kept = _place(found, tiles, data)
        document = _read(kept)
        if document is not None:
            return {**_described(document, tiles), "name": data.relative, "checkpoint": model}
        words: list[str | Path] = [
            "prototypes",
            "gallery",
            "--checkpoint",
            found.path,
            "--data",
            data.path,
            "--split",
            split,
        ]
        told = _told(data, services.cache, [found.path])

        def finish() -> None:
            _trim(kept.parent)
            if _loaded(kept) is None:  # else the same would be begun again and again
                raise LpdError("the pass left no answer that can be read: look whether the disk is full")

        argv = (*services.jobs.command, *map(str, words), "--json", str(kept))
        passes.begin(key, who, Work(argv, services.cache / _RUNS / kept.stem, told, finish))
        return JSONResponse({"progress": passes.look(key, who) or {"done": 0, "total": 0, "waiting": True}}, 202)

    @router.get("/api/datasets/{data_id}/prototypes/progress")
    def progress(data_id: str, split: str, model: str, who: _Who = "") -> dict[str, Any]:
        return {"progress": passes.look((data_id, split, model), who)}

    @router.delete("/api/datasets/{data_id}/prototypes")
    def leave(data_id: str, split: str, model: str, who: _Who = "") -> dict[str, Any]:
        passes.leave((data_id, split, model), who)
        return {}

    @router.get("/api/datasets/{data_id}/prototypes/plot.{kind}")
    @drawn
    def plot(data_id: str, split: str, model: Models, kind: Kind, digest: Digests = (), save: bool = False) -> Response:
        results = []
        for name, own in dict.fromkeys(zip_longest(model, digest[: len(model)], fillvalue="")):
            data, tiles, found = _asked(data_id, split, name, own)
            document = _read(_place(found, tiles, data))
            if document is None or document["figures"] is None:
                raise NotReadyError(f"{name} has not been measured over {data.relative}: measure it first")
            results.append((f"{name}, {data.relative} ({split})", document["figures"], found.classes))
        return drawn_figure(plot_data_figures(results), kind, "prototype-figures", save=save)

    def _asked(data_id: str, split: str, model: str, digest: str) -> tuple[DataSet, TileSet, CheckpointInfo]:
        data = data_sets.get(data_id)
        of = services.checkpoints
        found = of.same(model, digest) if digest else of.get(model)
        tiles = data_sets.tiles(data, split)
        if found.classes.codes != tiles.info.scheme.codes:
            known, own = (", ".join(codes) for codes in (found.classes.codes, tiles.info.scheme.codes))
            raise LpdError(f"{model} knows {known}, but {data.relative} has {own}: choose a data set of its classes")
        return data, tiles, found

    def _place(found: CheckpointInfo, tiles: TileSet, data: DataSet) -> Path:
        """Where the answer is kept; another one if model, description, tiles or masks are others."""
        about = data.path / FILE_NAME
        described = hashlib.sha256(about.read_bytes() if about.is_file() else b"").hexdigest()[:8]
        name = f"{digest_once(found.path)[-16:]}-{tiles.fingerprint()}-{described}-{tiles.split}.json"
        return services.cache / _FOLDER / name

    @router.get("/api/datasets/{data_id}/figure.{kind}")
    @drawn
    def figure(data_id: str, split: str, number: _Number, model: Models, kind: Kind, save: bool = False) -> Response:
        data = data_sets.get(data_id)
        name = tile_file(data_sets.tiles(data, split), number).image.name
        models = [services.checkpoints.get(one).path for one in dict.fromkeys(model)]
        with scratch(services.cache) as folder, _telling(_told(data, services.cache, models)):
            out = folder / f"figure.{kind}"
            words: list[str | Path] = ["--data", data.path, "--split", split, f"--name={name}", "--out", out]
            words += [word for path in models for word in ("--checkpoint", path)]
            words += [] if save or kind != "png" else ["--dpi", str(SCREEN_DPI)]
            run_command(services.jobs.command, ["prototypes", "figure", *words])
            content = out.read_bytes()
        return answer(content, kind, "prototypes", save=save)

    return router


def _told(data: DataSet, cache: Path, models: Sequence[Path]) -> Callable[[LpdError], LpdError]:
    """An error as it is told: where data sets, models and answers lie is nobody's business."""

    def told(error: LpdError) -> LpdError:
        words = str(error).replace(str(data.path), data.relative).replace(str(cache), cache.name)
        for path in models:
            words = words.replace(str(path), path.name)
        return LpdError(words)

    return told


@contextmanager
def _telling(told: Callable[[LpdError], LpdError]) -> Iterator[None]:
    try:
        yield
    except AbandonedError:
        raise
    except LpdError as error:
        raise told(error) from error


def _read(path: Path) -> dict[str, Any] | None:
    """An answer, if it is of the model and tiles that its name says: they may be replaced while a pass waits."""
    found = _loaded(path)
    is_of = found is not None and path.name.startswith(f"{found['digest'][-16:]}-{found['fingerprint']}-")
    return found if is_of else None


def _loaded(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nobody has asked before, or a disk was full
        return None
    return found if isinstance(found, dict) and found.get("version") == _VERSION else None


def _trim(folder: Path) -> None:
    kept = sorted(folder.glob("*.json"), key=_changed)
    for old in kept[:-_KEPT]:
        old.unlink(missing_ok=True)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another app on the same folder has deleted it
        return 0.0


def _described(document: dict[str, Any], tiles: TileSet) -> dict[str, Any]:
    """``figures`` as those of slides have it, None without masks; ``regions`` a list for each prototype, best first."""
    figures = document["figures"]
    return {
        "split": document["split"],
        "tiles": len(tiles),
        "tile_px": document["tile_px"],
        "regions": [[_place(place) for place in own] for own in document["places"]],
        "figures": None if figures is None else {**figures, "definitions": dict(DEFINITIONS)},
        **_flags(figures),
    }


def _place(place: dict[str, Any]) -> dict[str, Any]:
    region: Sequence[int] = [place[name] for name in ("x_px", "y_px", "width_px", "height_px")]
    return {"number": place["number"], "tile": place["tile"], "region": region, "score": place["score"]}


def _flags(figures: dict[str, Any] | None) -> dict[str, Any]:
    """Numbers of dead prototypes and near-duplicates over all classes."""
    if figures is None:
        return {"dead": [], "near_duplicates": []}
    per_class = figures["prototypes_per_class"]
    firsts = [(c * per_class, own) for c, own in enumerate(figures["classes"].values())]
    return {
        "dead": [first + k for first, own in firsts for k in own["dead"]],
        "near_duplicates": [(first + i, first + j, r) for first, own in firsts for i, j, r in own["near_duplicates"]],
    }
