"""Routes that change models: names of their prototypes, copies in which some are muted or merged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError
from lpd.model.editing import save_edited
from lpd.model.names import write_names
from viewers import checkpoints
from viewers.file_names import require_name
from viewers.gate import visitor
from viewers.services import Services

_Number = Annotated[int, Field(ge=0, le=9999)]


class NewNames(BaseModel):
    """Body of a request to name prototypes, by number; an empty name takes one away.

    ``digest``: of the checkpoint whose prototypes they are, if another file must not get them.
    """

    model_config = ConfigDict(extra="forbid")

    digest: str = ""
    names: dict[_Number, str] = Field(max_length=1024)


class NewModel(BaseModel):
    """Body of a request to save a copy called ``name`` with some prototypes muted, or counting as one.

    ``digest``: as for names.
    """

    model_config = ConfigDict(extra="forbid")

    digest: str = ""
    name: str
    muted: list[_Number] = Field(default=[], max_length=1024)
    merged: list[list[_Number]] = Field(default=[], max_length=512)


def model_router(services: Services) -> APIRouter:
    """What lies below ``/api/checkpoints/{name}``."""
    router = APIRouter()

    def meant(name: str, digest: str) -> Path:
        known = services.checkpoints
        return (known.same(name, digest) if digest else known.get(name)).path

    @router.put("/api/checkpoints/{name}/prototypes")
    def rename(request: Request, name: str, new: NewNames) -> dict[str, Any]:
        path = meant(name, new.digest)
        found = write_names(path, new.names, visitor(request).name)
        return {"names": {m: named.name for m, named in found.by_number.items()}}

    @router.post("/api/checkpoints/{name}/edited", status_code=201)
    def edited(request: Request, name: str, new: NewModel) -> dict[str, Any]:
        source = meant(name, new.digest)
        wanted = require_name(new.name.strip().removesuffix(".safetensors"), "a model's name")
        out = services.checkpoints.folder / f"{wanted}.safetensors"
        merged = [frozenset(members) for members in new.merged]
        try:
            saved = save_edited(source, out, new.muted, merged, author=visitor(request).name)
        except LpdError as error:  # where models lie is nobody's business
            raise LpdError(str(error).replace(str(out), out.name)) from error
        return checkpoints.describe(saved)

    return router
