"""Routes of what is measured beside a training: a probe before it, and how its checkpoint scores on any data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError
from viewers.gate import visitor
from viewers.train.evaluations import sheet
from viewers.train.room import TrainingRoom
from viewers.train.wishes import NewTraining, plan


class NewEvaluation(BaseModel):
    """Body of a request to score a training's checkpoint on a split of a data set."""

    model_config = ConfigDict(extra="forbid")

    data: Annotated[str, Field(max_length=40)]
    split: Literal["valid", "test"] = "valid"
    which: Literal["last", "best"] = "last"


def measuring_router(room: TrainingRoom) -> APIRouter:
    """``/api/probes`` and ``/api/trainings/{name}/evaluations``."""
    router = APIRouter()

    @router.post("/api/probes", status_code=202)
    def measure(request: Request, new: NewTraining) -> dict[str, Any]:
        wanted = plan(new, room.data_sets, room.starts, room.queue, visitor(request).name)
        if not wanted.wishes:
            raise LpdError(next(iter(wanted.problems.values()), "there is nothing to measure"))
        return {"id": room.probes.start(wanted.wishes[0]), "trainings": len(wanted.wishes)}

    @router.get("/api/probes/{number}")
    def measured(number: str) -> dict[str, Any]:
        return plain(room.probes.state(number))

    @router.delete("/api/probes/{number}", status_code=204)
    def give_up(number: str) -> None:
        room.probes.end(number)

    def plain(said: dict[str, Any]) -> dict[str, Any]:
        return {**said, "error": room.shortened(said["error"])} if "error" in said else said

    def told(name: str) -> dict[str, Any]:
        names = {data.id: data.relative for data in room.data_sets.all()}
        found = room.evaluations.all(room.trainings.get(name), names)
        return {"evaluations": [plain(one) for one in found]}

    @router.get("/api/trainings/{name}/evaluations")
    def evaluations(name: str) -> dict[str, Any]:
        return told(name)

    @router.post("/api/trainings/{name}/evaluations", status_code=202)
    def evaluate(name: str, new: NewEvaluation) -> dict[str, Any]:
        room.evaluations.start(room.trainings.get(name), new.which, room.data_sets.get(new.data), new.split)
        return told(name)

    @router.delete("/api/trainings/{name}/evaluations/{key}", status_code=204)
    def stop(request: Request, name: str, key: str) -> None:
        training = room.trainings.get(name)
        visitor(request).require_may_cancel(training.user)
        room.evaluations.end(training, key)

    @router.get("/api/trainings/{name}/evaluations/{key}/worst.png")
    def picture(name: str, key: str) -> FileResponse:
        headers = {"Cache-Control": "no-store"}
        return FileResponse(sheet(room.trainings.get(name), key), media_type="image/png", headers=headers)

    return router
