"""Elsewhere: what a process on another machine is told, and how it finds out that it cannot do that there."""

from __future__ import annotations

import argparse
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lpd
from lpd.cli.crew import attempt
from lpd.cli.segmenting import Outcome
from lpd.errors import RunError
from lpd.inference.cohort import CohortSlide, plain_path
from lpd.runs import is_alive, replacing

#: In the folder of the results, so that another machine can tell it from one of its own that has the same path.
SIGN = ".cohort"
#: A network share frees the lock of a machine that died after a while: NFS 4 after 90 s.
_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Order:
    """What all slides of a command have in common.

    Attributes:
        args: of the command; its paths are absolute.
        sign: what the file SIGN in the folder of the results says.
        version: of lpd.
    """

    args: argparse.Namespace
    sign: str
    version: str = lpd.__version__


@dataclass(frozen=True)
class Work:
    """A slide of it.

    Attributes:
        slide: which one.
        folder: where its result goes.
        again: the command has begun it before.
        seen: the process that leads sees the slide; else it is the slide that is at fault.
    """

    slide: CohortSlide
    folder: Path
    again: bool
    seen: bool

    @classmethod
    def of(cls, slide: CohortSlide, folder: Path, again: bool) -> Work:
        return cls(slide, absolute(folder), again, slide.path.exists())


@dataclass(frozen=True)
class Answer:
    """What another machine says of a slide.

    Attributes:
        outcome: what became of it.
        unfit: the machine cannot do any slide; the outcome says why.
        interrupted: it was stopped by the machine, not by a person, and wants to be gone on with.
    """

    outcome: Outcome
    unfit: bool = False
    interrupted: bool = False


def order_of(args: argparse.Namespace) -> Order:
    """Make the folder of the results, sign it, and spell out all paths.

    Raises:
        RunError: it cannot be written.
    """
    words = {name: absolute(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    order = argparse.Namespace(**words)
    path: Path = order.out / SIGN
    try:
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(uuid.uuid4().hex, encoding="ascii")
        return Order(order, path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot write {path} ({error}): choose another folder") from error


def absolute(path: Path) -> Path:
    """The path as all machines are to see it."""
    return plain_path(path)


def answer_to(order: Order, work: Work, segment: Callable[[], Outcome]) -> Answer:
    """Do a slide here, for another machine."""
    why = unfit_for(order, work)
    if why:
        return Answer(Outcome(work.slide.path, work.folder, "failed", why), unfit=True)
    return Answer(attempt(work.slide, work.folder, segment))


def unfit_for(order: Order, work: Work) -> str:
    """Why this machine cannot do a slide that another one asks for; empty if it can."""
    host = socket.gethostname()
    if order.version != lpd.__version__:
        return f"{host} has lpd {lpd.__version__}, not {order.version}: install the same version on all machines"
    paths = [order.args.checkpoint, *([work.slide.path] if work.seen else [])]
    paths += [order.args.regions] if order.args.regions else []
    unseen = next((path for path in paths if not path.exists()), None)
    if unseen is None and _sign(order.args.out) != order.sign:
        unseen = order.args.out
    return f"{host} does not see {unseen}: share it with all machines under this very path" if unseen else ""


def _sign(out: Path) -> str:
    try:
        return (out / SIGN).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def wait_until_free(folder: Path) -> None:
    """Wait for a run in the folder, or the lock of one that died with its machine; not for ever."""
    end = time.monotonic() + _PATIENCE_S
    while is_alive(folder) and time.monotonic() < end:
        time.sleep(1)
