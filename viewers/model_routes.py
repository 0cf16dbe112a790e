"""Routes that change models: names of their prototypes, copies in which some are muted or merged."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from lpd.errors import LpdError
from lpd.model.editing import save_edited
from lpd.model.names import write_names
from viewers import checkpoints
from viewers.gate import visitor
from viewers.services import Services

_NAME = re.compile(r"[\w][\w .+-]{0,99}")
_Number = Annotated[int, Field(ge=0, le=9999)]


class NewNames(BaseModel):
    """Body of a request to name prototypes, by number; an empty name takes one away."""

    model_config = ConfigDict(extra="forbid")

    names: dict[_Number, str] = Field(max_length=1024)


class NewModel(BaseModel):
    """Body of a request to save a copy called ``name`` with some prototypes muted, or counting as one."""

    model_config = ConfigDict(extra="forbid")

    name: str
    muted: list[_Number] = Field(default=[], max_length=1024)
    merged: list[list[_Number]] = Field(default=[], max_length=512)


def model_router(services: Services) -> APIRouter:
    """What lies below ``/api/checkpoints/{name}``."""
    router = APIRouter()

    @router.put("/api/checkpoints/{name}/prototypes")
    def rename(request: Request, name: str, new: NewNames) -> dict[str, Any]:
        path = services.checkpoints.get(name).path
        found = write_names(path, new.names, visitor(request).name)
        return {"names": {m: named.name for m, named in found.by_number.items()}}

    @router.post("/api/checkpoints/{name}/edited", status_code=201)
    def edited(request: Request, name: str, new: NewModel) -> dict[str, Any]:
        source = services.checkpoints.get(name).path
        wanted = new.name.strip().removesuffix(".safetensors")
        if not _NAME.fullmatch(wanted):
            raise LpdError(f"{wanted[:80]!r} cannot be a model's name: use letters, digits, spaces and . _ + - alone")
        out = services.checkpoints.folder / f"{wanted}.safetensors"
        merged = [frozenset(members) for members in new.merged]
        try:
            saved = save_edited(source, out, new.muted, merged, author=visitor(request).name)
        except LpdError as error:  # where models lie is nobody's business
            raise LpdError(str(error).replace(str(out), out.name)) from error
        return checkpoints.describe(saved)

    return router
