"""Snapshots: all that a training needs to go on exactly where it was, in one file that is replaced atomically."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lpd.errors import RunError
from lpd.recipe.run_files import RESUME
from lpd.runs import replacing
from lpd.training.unfinished import check_unfinished


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A training after some step. Random numbers depend on seed and step alone, so none are kept.

    Attributes:
        step: optimiser steps done.
        seconds: of work until then.
        best: highest score on the valid split so far, None without one.
        record: settings, encoder weights and data as the checkpoints say them; a training goes on with the same only.
        states: ``state_dict`` of each part of the trainer: network, optimiser, averaged weights and the like.
    """

    step: int
    seconds: float
    best: float | None
    record: Mapping[str, Any]
    states: Mapping[str, Mapping[str, Any]]


def save_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write the snapshot of a run in place of the one before.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    try:
        # Closed by ourselves whatever happens: what torch holds open fills the disk still, and the run cannot say why.
        with replacing(folder / RESUME) as temporary, temporary.open("wb") as file:
            torch.save({name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}, file)
    except (
        OSError,
        RuntimeError,
    ) as error:  # torch's own writer reports a full disk as RuntimeError, in words of its own
        reason = getattr(error, "strerror", None) or "the disk is full or failing"
        raise RunError(
            f"cannot write {folder / RESUME} ({reason}): free some space or choose another folder"
        ) from error


def load_snapshot(folder: Path, record: Mapping[str, Any]) -> Snapshot:
    """The snapshot in ``folder``, if it is of a training like ``record``.

    Raises:
        RunError: there is none, it is damaged, or its settings, encoder weights or data are others.
    """
    path = folder / RESUME
    check_unfinished(folder)
    try:
        snapshot = Snapshot(**torch.load(path, map_location="cpu", weights_only=True))
        if not isinstance(snapshot.record, Mapping) or not isinstance(snapshot.states, Mapping):
            raise TypeError
    except Exception as error:  # a damaged file may fail in any way; it holds no code of ours
        raise RunError(f"{path} is damaged ({type(error).__name__}): start anew with --force") from error
    for part, now in record.items():
        before = snapshot.record.get(part)
        if before != now:
            raise RunError(f"{folder} was trained with another {_difference(part, before, now)}: go on with the same")
    return snapshot


def _difference(part: str, before: Any, now: Any) -> str:
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return f"{part} ({before!r}, now {now!r})"
    name = next(k for k in [*now, *before] if before.get(k) != now.get(k))
    return _difference(f"{part}.{name}", before.get(name), now.get(name))
