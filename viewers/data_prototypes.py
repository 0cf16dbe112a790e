"""Prototypes over data sets: figures of merit and gallery of a split, one of its tiles as a figure, by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Response

from lpd.data.tiles import TileSet
from lpd.errors import LpdError
from lpd.explain.definitions import DEFINITIONS
from lpd.runs import write_json_atomically
from viewers.checkpoints import digest_once
from viewers.commands import run_command, scratch
from viewers.figure_routes import SCREEN_DPI, Kind, answer
from viewers.services import Services
from viewers.train.datasets import DataSet, DataSets, tile_file
from viewers.turns import AbandonedError, in_turn

_FOLDER = "data-prototypes"
#: Answers kept; the oldest are deleted.
_KEPT = 64
#: A pass over a large data set without a GPU.
_PATIENCE_S = 6 * 3600.0
_Models = Annotated[list[str], Query(min_length=1, max_length=2)]
_Number = Annotated[int, Query(ge=0, lt=2**31)]


def data_prototype_router(services: Services, data_sets: DataSets) -> APIRouter:
    """``/api/datasets/{id}/prototypes`` and ``/api/datasets/{id}/figure``."""
    router = APIRouter()
    passes, drawn = in_turn(CapacityLimiter(1)), in_turn(CapacityLimiter(1))

    @router.get("/api/datasets/{data_id}/prototypes")
    @passes
    def prototypes(data_id: str, split: str, model: str) -> dict[str, Any]:
        data = data_sets.get(data_id)
        found = services.checkpoints.get(model)
        tiles = data_sets.tiles(data, split)
        if found.classes.codes != tiles.info.scheme.codes:
            known, own = (", ".join(codes) for codes in (found.classes.codes, tiles.info.scheme.codes))
            raise LpdError(f"{model} knows {known}, but {data.relative} has {own}: choose a data set of its classes")
        name = f"{digest_once(found.path)[-16:]}-{tiles.fingerprint()}-{split}.json"
        kept = services.cache / _FOLDER / name
        document = _read(kept)
        if document is None:
            document = _computed(services, found.path, data, split)
            _keep(kept, document)
        return {**_described(document, tiles), "name": data.relative, "checkpoint": model}

    @router.get("/api/datasets/{data_id}/figure.{kind}")
    @drawn
    def figure(data_id: str, split: str, number: _Number, model: _Models, kind: Kind, save: bool = False) -> Response:
        data = data_sets.get(data_id)
        name = tile_file(data_sets.tiles(data, split), number).image.name
        models = [services.checkpoints.get(one).path for one in dict.fromkeys(model)]
        with scratch(services.cache) as folder, _told(data):
            out = folder / f"figure.{kind}"
            words: list[str | Path] = ["--data", data.path, "--split", split, f"--name={name}", "--out", out]
            words += [word for path in models for word in ("--checkpoint", path)]
            words += [] if save or kind != "png" else ["--dpi", str(SCREEN_DPI)]
            run_command(services.jobs.command, ["prototypes", "figure", *words])
            content = out.read_bytes()
        return answer(content, kind, "prototypes", save=save)

    return router


def _computed(services: Services, checkpoint: Path, data: DataSet, split: str) -> dict[str, Any]:
    """Figures and gallery in one pass of the network."""
    with scratch(services.cache) as folder, _told(data):
        out = folder / "found.json"
        words: list[str | Path] = [
            "prototypes",
            "gallery",
            "--checkpoint",
            checkpoint,
            "--data",
            data.path,
            "--split",
            split,
            "--json",
            out,
        ]
        run_command(services.jobs.command, words, _PATIENCE_S)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


@contextmanager
def _told(data: DataSet) -> Iterator[None]:
    """Where a data set lies is nobody's business."""
    try:
        yield
    except AbandonedError:
        raise
    except LpdError as error:
        raise LpdError(str(error).replace(str(data.path), data.relative)) from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nobody has asked before, or a disk was full
        return None
    return found


def _keep(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(path, document)
    kept = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
    for old in kept[:-_KEPT]:
        old.unlink(missing_ok=True)


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
