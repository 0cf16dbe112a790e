"""Job: slides and flags as they go over the line to the resident worker, and the outcomes that come back."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.cli.segmenting import Outcome
from lpd.inference.cohort import CohortSlide

_PATHS = ("checkpoint", "out", "queue", "regions")


@dataclass(frozen=True)
class Job:
    """What a command wants; all its paths are absolute, as the worker is somewhere else."""

    folders: Mapping[CohortSlide, Path]
    args: argparse.Namespace

    def to_message(self) -> dict[str, Any]:
        """Plain JSON values."""
        args = {name: value for name, value in vars(self.args).items() if not callable(value)}
        args |= {name: str(args[name].absolute()) for name in _PATHS if args[name] is not None}
        args["slides"] = [str(path.absolute()) for path in self.args.slides]
        slides = [(str(s.path.absolute()), s.mpp, str(folder.absolute())) for s, folder in self.folders.items()]
        return {"args": args, "folders": slides}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Job:
        """Rebuild from :meth:`to_message`."""
        args = dict(message["args"])
        args |= {name: Path(args[name]) for name in _PATHS if args[name] is not None}
        args["slides"] = [Path(path) for path in args["slides"]]
        folders = {CohortSlide(Path(path), mpp): Path(folder) for path, mpp, folder in message["folders"]}
        return cls(folders, argparse.Namespace(**args))


def to_message(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON values."""
    return {**dataclasses.asdict(outcome), "slide": str(outcome.slide), "folder": str(outcome.folder)}


def from_message(message: Mapping[str, Any]) -> Outcome:
    """Rebuild from :func:`to_message`."""
    return Outcome(**{**message, "slide": Path(message["slide"]), "folder": Path(message["folder"])})
