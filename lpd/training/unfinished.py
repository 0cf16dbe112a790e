"""Whether a training lies in a folder already, or one to go on with; without torch, for who waits in line."""

from __future__ import annotations

from pathlib import Path

from lpd.errors import RunError
from lpd.recipe.run_files import LAST, RESUME
from lpd.runs import exists


def check_untrained(folder: Path) -> None:
    """Make sure that a training in ``folder`` would not cost anybody a model.

    Raises:
        RunError: the folder holds one, finished or not.
    """
    if exists(folder / RESUME):
        raise RunError(f"{folder} holds an unfinished training: pass --resume to go on or --force to start anew")
    if exists(folder / LAST):
        raise RunError(f"{folder} already holds a trained model: pass --force to replace it or another --out")


def check_unfinished(folder: Path) -> None:
    """Make sure that there is a training to go on with.

    Raises:
        RunError: there is none.
    """
    if not exists(folder / RESUME):
        raise RunError(f"{folder} holds no unfinished training: start it without --resume")
