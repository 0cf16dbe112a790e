"""Crew: whoever computes a cohort's slides, here or elsewhere; lead() shares the slides out and says how they end."""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lpd.cli.segmenting import Outcome
from lpd.errors import LpdError, RunError
from lpd.inference.cohort import CohortSlide
from lpd.runs import has_ended, request_stop

#: A slide that has ended so many processes without getting any further is given up.
MOST_DEATHS = 3
#: So many processes may die one after the other before they have loaded the model.
MOST_STILLBORN = 10
#: How long to wait for news before looking up.
LOOK_S = 0.3


@dataclass(frozen=True)
class Ended:
    """A slide that is in nobody's hands any more.

    Attributes:
        slide: which one.
        outcome: what became of it; None if whoever had it did not get to its end.
        death: how that one died, as ``exit code -9``; empty if it gave the slide back unharmed.
    """

    slide: CohortSlide
    outcome: Outcome | None = None
    death: str = ""


class Crew(Protocol):
    """Computes slides: processes of this machine, workers of a Dask cluster, jobs of Slurm."""

    def begin(self, slide: CohortSlide, folder: Path, again: bool) -> bool:
        """Take a slide in hand, maybe again; False while everybody is busy."""

    def ended(self, wait_s: float) -> list[Ended]:
        """Slides that are in hand no more; wait for one for so many seconds at most.

        Raises:
            LpdError: nobody is left, or will come, to compute anything.
        """

    def stop(self) -> None:
        """Ask all slides in hand to save and stop; called again and again until none is left."""

    def close(self) -> None:
        """Let all go; what is still in hand is asked to stop, because nobody wants the outcome any more."""


def lead(folders: Mapping[CohortSlide, Path], crew: Crew) -> Iterator[Outcome]:
    """Have all slides computed, each once; outcomes come as slides end.

    A slide whose process dies is gone on with by another one, unless MOST_DEATHS got it no further. Ctrl-C and SIGTERM
    end it early: what slides in hand have come to is saved, and they come out as stopped.

    Args:
        folders: of the results, by slide.
        crew: who computes; closed at the end.

    Raises:
        LpdError: nobody is left to compute anything.
    """
    waiting, in_hand = deque(folders), set[CohortSlide]()
    deaths, saved = Counter[CohortSlide](), dict[CohortSlide, tuple[str, int]]()
    found: dict[CohortSlide, str] = {}
    with listening() as stopping:
        try:
            while in_hand or (waiting and not stopping.is_set()):
                if stopping.is_set():
                    crew.stop()
                while waiting and not stopping.is_set():
                    slide, folder = waiting[0], folders[waiting[0]]
                    again = found.setdefault(slide, result_in(folder)[0]) != result_in(folder)[0]
                    if not crew.begin(slide, folder, again):
                        break
                    in_hand.add(waiting.popleft())
                for end in crew.ended(LOOK_S):
                    in_hand.remove(end.slide)
                    if end.death:
                        before = saved.get(end.slide)
                        saved[end.slide] = result_in(folders[end.slide])
                        deaths[end.slide] = deaths[end.slide] + 1 if saved[end.slide] == before else 1
                    if end.outcome is not None:
                        yield end.outcome
                    elif deaths[end.slide] < MOST_DEATHS:
                        waiting.appendleft(end.slide)
                    else:
                        yield _given_up(end, folders[end.slide], deaths[end.slide])
        finally:
            crew.close()


def stillborn(count: int, why: str) -> None:
    """Refuse to go on where processes die before they have anything in hand.

    Raises:
        RunError: ``count`` is MOST_STILLBORN.
    """
    if count >= MOST_STILLBORN:
        raise RunError(f"{count} processes died one after the other as they loaded the model ({why}): free some memory")


def result_in(folder: Path) -> tuple[str, int]:
    """Which run began the result in a folder, and how many panels of it there are; nothing if none did.

    A run that goes on does some panels again: those count once, or a slide that ends every process would seem to grow.
    One that adds a part gets further with panels that an earlier part has, too: of those it computes other pixels.
    """
    from lpd.inference.changes import CHANGES_NAME, ChangeLog

    log = ChangeLog(folder / CHANGES_NAME)
    try:
        return log.read().run, sum(len(set(part.rects)) for part in log.parts())
    except (OSError, ValueError, KeyError, TypeError):  # which the slide's own turn will tell of
        return "", 0


def ask_to_stop(folder: Path) -> None:
    """Ask the run in a folder to save and stop; one that has not begun is asked later, one that has ended never."""
    with suppress(OSError, RunError):
        if folder.is_dir() and not has_ended(folder):
            request_stop(folder)


def attempt(slide: CohortSlide, folder: Path, segment: Callable[[], Outcome]) -> Outcome:
    """What became of a slide, whatever happens on the way."""
    try:
        return segment()
    except LpdError as error:  # the model cannot be loaded
        return Outcome(slide.path, folder, "failed", str(error))
    except KeyboardInterrupt:  # stopped while it waited for the device
        return Outcome(slide.path, folder, "stopped", f"{slide.path.name} was not begun", 0.0, True)
    except Exception as error:  # a fault of ours or of a library, which trying again would not mend
        return Outcome(slide.path, folder, "failed", f"{slide.path.name}: {type(error).__name__}: {error}")


@contextmanager
def listening() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM as an event, inside the block."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {n: signal.signal(n, lambda *_: event.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _given_up(end: Ended, folder: Path, deaths: int) -> Outcome:
    said = (
        f"{end.slide.path.name} ended its process {deaths} times ({end.death}): give it more memory, or open it by "
        f"itself to see whether it is damaged; what was finished is in {folder}"
    )
    return Outcome(end.slide.path, folder, "failed", said)
