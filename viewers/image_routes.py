"""Routes of pictures that are no slides: a tile is looked at by one or two models, all their prototypes in a figure."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import APIRouter, Form, Response, UploadFile

from lpd.errors import LpdError
from viewers.commands import clear_scratch, run_command, scratch
from viewers.figure_routes import SCREEN_DPI, Kind, answer
from viewers.services import Services
from viewers.turns import AbandonedError, in_turn

_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def image_router(services: Services) -> APIRouter:
    """``/api/images/figure``."""
    router = APIRouter()
    clear_scratch(services.cache)

    @router.post("/api/images/figure")
    @in_turn(CapacityLimiter(1))
    def figure(
        image: UploadFile,
        checkpoint: Annotated[list[str], Form(min_length=1, max_length=2)],
        mask: UploadFile | None = None,
        kind: Annotated[Kind, Form()] = "png",
        save: Annotated[bool, Form()] = False,
    ) -> Response:
        models = [services.checkpoints.get(name).path for name in dict.fromkeys(checkpoint)]
        with scratch(services.cache) as folder:
            out = folder / f"figure.{kind}"
            arguments: list[str | Path] = ["prototypes", "figure", "--image", _kept(image, folder / "image")]
            arguments += ["--mask", _kept(mask, folder / "mask")] if mask is not None else []
            arguments += [word for path in models for word in ("--checkpoint", path)]
            arguments += ["--out", out] if save or kind != "png" else ["--out", out, "--dpi", str(SCREEN_DPI)]
            try:
                run_command(services.jobs.command, arguments)
            except AbandonedError:
                raise
            except LpdError as error:  # where it lay for this moment is nobody's business
                raise LpdError(re.sub(rf"{re.escape(str(folder))}[\\/](image|mask)[\\/]", "", str(error))) from error
            content = out.read_bytes()
        return answer(content, kind, "prototypes", save=save)

    return router


def _kept(sent: UploadFile, folder: Path) -> Path:
    """A picture that was sent, under its own name where that is harmless: the figure says it.

    Raises:
        LpdError: it is no picture by its name.
    """
    name = PureWindowsPath(PurePosixPath(sent.filename or "").name).name
    if Path(name).suffix.lower() not in _ENDINGS:
        raise LpdError(f"{name[:80] or 'a file without a name'} is no picture: choose a PNG, JPEG or TIFF file")
    safe = "".join(c if c.isalnum() or c in "._- []" else "_" for c in name)[-120:].lstrip(".-")
    folder.mkdir()
    path = folder / safe
    path.write_bytes(sent.file.read())
    return path
