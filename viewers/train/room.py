"""TrainingRoom: what the Train tab works with, made once at start."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from viewers.checkpoints import Checkpoints
from viewers.train.checks import Checks
from viewers.train.datasets import DataSets
from viewers.train.evaluations import Evaluations
from viewers.train.making import PhantomMaker
from viewers.train.probes import Probes
from viewers.train.trainings import Trainings
from viewers.train.weights import Starts

_LPD = (sys.executable, "-m", "lpd")


@dataclass(frozen=True)
class TrainingFolders:
    """Where trainings lie (``runs``), data sets (``data``) and weights of encoders (``weights``); none need exist."""

    runs: Path
    data: Path
    weights: Path


@dataclass(frozen=True)
class TrainingRoom:
    """The trainings, data sets and weights; ``queue`` is the folder of the line for the device."""

    trainings: Trainings
    data_sets: DataSets
    starts: Starts
    checks: Checks
    maker: PhantomMaker
    probes: Probes
    evaluations: Evaluations
    checkpoints: Checkpoints
    queue: Path

    def shortened(self, text: str) -> str:
        """A text for everybody: where the folders lie on the server is left out."""
        places = (self.trainings, self.data_sets, self.starts, self.checkpoints)
        for root in (*(place.folder for place in places), self.queue):
            if root.parent != root.parent.parent:  # "/" is no place to hide
                text = re.sub(rf"{re.escape(str(root.parent))}/?", "", text)
        return text


def make_room(
    folders: TrainingFolders, checkpoints: Checkpoints, queue: Path, cache: Path, command: tuple[str, ...] = _LPD
) -> TrainingRoom:
    """The room for some folders.

    Args:
        folders: of the flags.
        checkpoints: the models, which publishing adds to.
        queue: where segmentations and trainings wait for the device.
        cache: folder that may be deleted at any time.
        command: how to call ``lpd``.
    """
    return TrainingRoom(
        Trainings(folders.runs, command),
        DataSets(folders.data),
        Starts(folders.weights, checkpoints),
        Checks(cache / "checks", command),
        PhantomMaker(folders.data.resolve(), command),
        Probes(cache / "probes", command),
        Evaluations(command),
        checkpoints,
        queue,
    )
