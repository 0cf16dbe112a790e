"""Where encoders may start from: weights files of one folder, shipped models, or nothing; each with an id, no path."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpd.model.header import CheckpointInfo
from lpd.recipe.config import FROM_SCRATCH
from viewers.checkpoints import Checkpoints
from viewers.errors import NotFoundError

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Start:
    """One place to start from: ``value`` is what ``encoder.weights`` says; ``settings`` what must go with it."""

    id: str
    label: str
    kind: str
    value: str
    settings: dict[str, Any] = field(default_factory=dict)


class Starts:
    """All places to start from; ``folder`` need not exist.

    Args:
        folder: of weights files, and of folders of them.
        checkpoints: the models, whose encoders can be trained on.
    """

    def __init__(self, folder: Path, checkpoints: Checkpoints) -> None:
        self.folder = folder.resolve()
        self._checkpoints = checkpoints

    def all(self) -> list[Start]:
        """Weights files, then models, then nothing."""
        models = [_model(found) for found in self._checkpoints.all() if isinstance(found, CheckpointInfo)]
        return [*self._files(), *models, Start(FROM_SCRATCH, "nothing: untrained", "none", FROM_SCRATCH)]

    def get(self, start_id: str) -> Start:
        """
        Raises:
            NotFoundError: there is none of that id.
        """
        for start in self.all():
            if start.id == start_id:
                return start
        raise NotFoundError("the weights file to start from is gone: choose another one")

    def of_value(self, value: str) -> Start | None:
        """The one that a setting names by its path, or at least by its file's name; None if it is not here."""
        known = self.all()
        same = (start for start in known if start.value == value)
        return next(same, None) or next((s for s in known if Path(s.value).name == Path(value).name), None)

    def _files(self) -> list[Start]:
        paths = [*self.folder.glob("*"), *self.folder.glob("*/*")] if self.folder.is_dir() else []
        kept = (p for p in sorted(paths) if p.suffix in _SUFFIXES and p.is_file() and not p.name.startswith("."))
        return [_file(self.folder, path) for path in kept if self.folder in path.resolve().parents]


def _file(folder: Path, path: Path) -> Start:
    name = path.relative_to(folder).as_posix()
    number = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return Start(number, name.encode("utf-8", "replace").decode(), "file", str(path))


def _model(info: CheckpointInfo) -> Start:
    """A model's encoder goes on as what it was."""
    settings: dict[str, Any] = {
        "encoder.name": info.model.encoder,
        "encoder.options": dict(info.model.timm_options),
        "encoder.mean": list(info.input.mean),
        "encoder.std": list(info.input.std),
        "encoder.last_stride": info.model.last_stride,
    }
    return Start(f"model:{info.name}", f"model {info.name}", "model", str(info.path), settings)
