"""The models of one folder as the page sees them: headers only, bad files with their reason, a suggestion per slide."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from lpd.classes import ClassScheme
from lpd.errors import CheckpointError, LpdError, OutdatedError
from lpd.model.header import BadCheckpoint, CheckpointInfo, file_digest, list_checkpoints
from viewers.errors import NotFoundError

_SYNTHETIC = "synthetic"


class Checkpoints:
    """Checkpoint files in ``folder``, read anew at each question: a model that training just saved shows up.

    Raises:
        LpdError: ``folder`` is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise LpdError(f"there is no checkpoints folder {folder}: create it or name another one with --checkpoints")
        self.folder = folder.resolve()

    def all(self) -> list[CheckpointInfo | BadCheckpoint]:
        return list_checkpoints(self.folder)

    def get(self, name: str) -> CheckpointInfo:
        """The good checkpoint of that name.

        Raises:
            NotFoundError: there is none.
        """
        for found in self.all():
            if isinstance(found, CheckpointInfo) and found.name == name:
                return found
        raise NotFoundError(f"there is no usable model {name[:80]!r}: choose another one from the list")

    def same(self, name: str, digest: str) -> CheckpointInfo:
        """The checkpoint of that name, if it is still the very file that a result is by.

        Raises:
            NotFoundError: there is none.
            OutdatedError: it is another file by now, whose prototypes have only their numbers in common.
        """
        found = self.get(name)
        if digest_once(found.path) != digest:
            raise OutdatedError(f"{name} is another model now than when its maps were computed: compute them again")
        return found


def digest_once(path: Path) -> str:
    """As :func:`~lpd.model.header.file_digest`; a file is read again only when its size or time is another one.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check the path") from error
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, _modified_ns: int, _size: int) -> str:
    """Of a file, read once."""
    return file_digest(path)


def suggest(checkpoints: list[CheckpointInfo | BadCheckpoint], *, synthetic: bool) -> str | None:
    """Name of the model to preselect: for drawn tissue the first that learnt on such, else the first other one.

    Of those the first with learnable prototypes that nobody edited, if there is one: clustered ones and edited copies
    are there to compare with. Falls back to the first usable one; None without any.
    """
    usable = [found for found in checkpoints if isinstance(found, CheckpointInfo)]
    matching = [found for found in usable if _is_synthetic(found) == synthetic] or usable
    learnt = [found for found in matching if found.prototype_source == "learnable" and not found.edited]
    return next((found.name for found in learnt or matching), None)


def _is_synthetic(found: CheckpointInfo) -> bool:
    """Whether a model learnt on drawn tissue, by what it says of its data."""
    data = found.training.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return _SYNTHETIC in f"{name} {found.notice}".lower()


def describe(found: CheckpointInfo | BadCheckpoint) -> dict[str, Any]:
    """A checkpoint as plain JSON for the page."""
    if isinstance(found, BadCheckpoint):
        reason = found.reason.replace(str(found.path), found.path.name)
        return {"name": _readable(found.name), "error": _readable(reason)}
    return {
        "name": found.name,
        "notice": found.notice,
        "mpp": found.input.mpp,
        "classes": describe_classes(found.classes),
        "prototype_source": found.prototype_source,
        "prototypes_per_class": found.model.prototypes_per_class,
        "encoder": found.model.encoder,
    }


def _readable(text: str) -> str:
    # A file name need not be UTF-8, but the page's JSON must be.
    return text.encode("utf-8", "replace").decode()


def describe_classes(scheme: ClassScheme) -> list[dict[str, Any]]:
    """Legend entries in mask order; the last one is background."""
    entries = [{"code": c.code, "name": c.name, "color": list(c.color)} for c in scheme.classes]
    return [*entries, {"code": "BACK", "name": "Background", "color": list(scheme.background_color)}]
