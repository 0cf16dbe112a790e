"""Routes of trainings: the form, start, watch, stop, go on, delete, publish."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError
from lpd.recipe.run_files import CONFIG, PREVIEWS
from viewers import checkpoints
from viewers.errors import NotFoundError, NotReadyError
from viewers.file_names import require_plain_name
from viewers.gate import visitor
from viewers.services import Services
from viewers.train import form
from viewers.train.curves import read_curves
from viewers.train.publishing import Publication, publish
from viewers.train.records import Training
from viewers.train.room import TrainingRoom
from viewers.train.saved import saved_settings
from viewers.train.telling import describe, described_once
from viewers.train.weights import Start
from viewers.train.wishes import NewTraining, plan

_LARGEST_YAML = 64 * 1024
_NO_STORE = {"Cache-Control": "no-store"}


class NewPublication(BaseModel):
    """Body of a request to make a model of a training's checkpoint."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=100)]
    which: Literal["last", "best"] = "last"
    licence: Annotated[str, Field(max_length=500)] = ""
    use: Annotated[str, Field(max_length=4000)] = ""


class SavedSettings(BaseModel):
    """Body of a request to read settings: what a YAML file holds."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=_LARGEST_YAML)]


def training_router(services: Services, room: TrainingRoom) -> APIRouter:
    """Everything under ``/api/training`` and ``/api/trainings``."""
    router = APIRouter()
    trainings = room.trainings

    def told(training: Training) -> dict[str, Any]:
        return plain(describe(training, services.queue()))

    def plain(said: dict[str, Any]) -> dict[str, Any]:
        return {**said, "message": room.shortened(said["message"])}

    def seen(request: Request, text: str) -> str:
        """Where things lie on the server is the business of those alone who may end everything."""
        if visitor(request).may_cancel_all:
            return text
        return room.shortened(text)

    @router.get("/api/training")
    def setup(request: Request) -> dict[str, Any]:
        starts = [{"id": s.id, "label": s.label, "kind": s.kind, "settings": _texts(s)} for s in room.starts.all()]
        return {**form.form(), "starts": starts, "tensorboard": seen(request, _tensorboard(trainings.folder))}

    @router.post("/api/training/settings")
    def read_settings(saved: SavedSettings) -> dict[str, Any]:
        return saved_settings(saved.text, room.starts)

    @router.get("/api/trainings")
    def listing() -> dict[str, Any]:
        found = trainings.all()
        line = services.queue(trainings=found)
        return {"trainings": [plain(described_once(training, line)) for training in found]}

    @router.post("/api/trainings/check")
    def check(request: Request, new: NewTraining) -> dict[str, Any]:
        wanted = plan(new, room.data_sets, room.starts, room.queue, visitor(request).name)
        said = wanted.describe(trainings.command, trainings.folder)
        for name in said["names"]:
            try:
                trainings.new_folder(name)
            except LpdError as error:
                said["problems"].setdefault("name", str(error))
        said["commands"] = [seen(request, command) for command in said["commands"]]
        said["yaml"] = seen(request, said["yaml"])
        return said

    @router.post("/api/trainings", status_code=201)
    def start(request: Request, response: Response, new: NewTraining) -> dict[str, Any]:
        wanted = plan(new, room.data_sets, room.starts, room.queue, visitor(request).name)
        if wanted.problems or not wanted.wishes:
            raise LpdError(next(iter(wanted.problems.values()), "there is nothing to train"))
        for wish in wanted.wishes:
            trainings.new_folder(wish.name)  # none if a name is taken
        started: list[Training] = []
        for wish in wanted.wishes:
            try:
                started.append(trainings.start(wish))
            except LpdError as error:  # a full disk, say
                begun = ", ".join(training.name for training in started)
                raise LpdError(room.shortened(f"{error}{begun and f' ({begun} are started and go on)'}")) from error
        response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/trainings/{started[0].name}"
        return {"trainings": [told(training) for training in started]}

    @router.get("/api/trainings/{name}")
    def one(name: str) -> dict[str, Any]:
        return told(trainings.get(name))

    @router.post("/api/trainings/{name}/publication", status_code=201)
    def publication(request: Request, name: str, new: NewPublication) -> dict[str, Any]:
        training = trainings.get(name)
        wanted = require_plain_name(new.name.strip().removesuffix(".safetensors"), "a model's name")
        wish = Publication(wanted, new.which, new.licence, new.use, visitor(request).name)
        return checkpoints.describe(publish(training, wish, room.checkpoints.folder))

    @router.post("/api/trainings/{name}/{what}")
    def change(request: Request, name: str, what: Literal["stop", "kill", "go-on"]) -> dict[str, Any]:
        visitor(request).require_may_cancel(trainings.get(name).user)
        act = {"stop": trainings.stop, "kill": trainings.kill, "go-on": trainings.go_on}[what]
        return told(act(name))

    @router.delete("/api/trainings/{name}", status_code=204)
    def delete(request: Request, name: str) -> None:
        training = trainings.get(name)
        visitor(request).require_may_cancel(training.user)
        if training.run.ended:
            room.evaluations.end_all(training)
        trainings.delete(name)
        room.evaluations.end_all(training)  # one that was begun meanwhile would bring half of the folder back

    @router.get("/api/trainings/{name}/curves")
    def curves(
        name: str, run: Annotated[str, Query(max_length=40)] = "", since: Annotated[int, Query(ge=0)] = 0
    ) -> dict[str, Any]:
        training = trainings.get(name)
        return {**read_curves(training.folder, run, since), "training": told(training)}

    @router.get("/api/trainings/{name}/log")
    def log(request: Request, name: str) -> dict[str, str]:
        return {"text": seen(request, trainings.log_tail(name))}

    @router.get("/api/trainings/{name}/previews/{step}.png")
    def preview(name: str, step: Annotated[int, Field(ge=0, le=10**9)]) -> FileResponse:
        path = trainings.get(name).folder / PREVIEWS / f"step-{step:06d}.png"
        if not path.is_file():
            raise NotReadyError(f"training {name} has no picture of step {step}: reload the page")
        return FileResponse(path, media_type="image/png", headers=_NO_STORE)

    @router.get("/api/trainings/{name}/settings")
    def settings(name: str) -> dict[str, Any]:
        return saved_settings(_config(trainings.get(name)), room.starts)

    @router.get("/api/trainings/{name}/config.yaml")
    def config(request: Request, name: str) -> Response:
        headers = {**_NO_STORE, "Content-Disposition": f'attachment; filename="{name}.yaml"'}
        text = seen(request, _config(trainings.get(name)))
        return Response(text, media_type="application/yaml", headers=headers)

    return router


def _tensorboard(runs: Path) -> str:
    """How to look at the trainings with TensorBoard; empty where it is not installed."""
    return shlex.join(("tensorboard", "--logdir", str(runs))) if find_spec("tensorboard") else ""


def _texts(start: Start) -> dict[str, str]:
    return {path: form.as_text(value) for path, value in start.settings.items()}


def _config(training: Training) -> str:
    try:
        return (training.folder / CONFIG).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"training {training.name} has not written its settings: it ended before") from None
