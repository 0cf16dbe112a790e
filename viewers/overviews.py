"""Overviews: coarse copies of slides that have none, made behind the scenes, kept on disk within bounds."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from lpd.errors import LpdError, SlideError
from lpd.slide.opening import open_slide
from lpd.slide.slide import Slide
from viewers.errors import PreparingError

_LOGGER = logging.getLogger(__name__)
#: Overviews of about 60 slides of 100,000 × 80,000 px, or of 400 a tenth of that.
_LIMIT_BYTES = 8_000_000_000
#: Of more, those that were asked for first are forgotten; whoever still wants them asks again.
_MOST_WAITING = 20


class Overviews:
    """Copies by slide fingerprint; those that were not used for the longest go first. Thread-safe.

    Tiles of a large slide without smaller levels would have to read all of it. It is read once instead, by one thread
    at low priority, the slide that was asked for last first; until then, whoever asks hears how far that is.

    Args:
        folder: where they are kept. Deleting it costs only time.
        limit: bytes that it may hold; the one that was just made stays in any case.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._guard, self._adding = threading.Lock(), threading.Lock()
        self._waiting: dict[str, Path] = {}
        self._progress: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._working = False

    def require(self, slide: Slide) -> None:
        """Have a slide read its coarse pixels from its overview, if it needs one.

        Raises:
            PreparingError: it is being made; ask again soon.
            SlideError: it cannot be made.
        """
        if not slide.needs_overview:
            return
        path = self._folder / f"{slide.fingerprint}.rgb"
        try:
            with self._adding:
                if slide.needs_overview:  # else another thread has been quicker
                    slide.add_overview(path)
            path.touch()
            return
        except FileNotFoundError:
            pass
        except (OSError, SlideError) as error:
            _LOGGER.warning("the overview %s is made anew (%s)", path, error)
        self._want(slide)

    def _want(self, slide: Slide) -> None:
        key = slide.fingerprint
        with self._guard:
            if reason := self._failed.pop(key, ""):  # told once; the next one who asks has it tried again
                raise SlideError(reason)
            if key not in self._progress:
                self._waiting.pop(key, None)
                self._waiting[key] = slide.path
                while len(self._waiting) > _MOST_WAITING:
                    del self._waiting[next(iter(self._waiting))]
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="make overviews", daemon=True).start()
            done = self._progress.get(key, 0.0)
        raise PreparingError(
            f"{slide.path.name} has no smaller levels, so an overview of it is being made, this once: {done:.0%} done",
            done,
        )

    def _work(self) -> None:
        _step_back()
        while True:
            with self._guard:
                if not self._waiting:
                    self._working = False
                    return
                key, path = self._waiting.popitem()
                self._progress[key] = 0.0
            try:
                self._make(key, path)
            except LpdError as error:
                self._failed[key] = str(error)
            except OSError as error:
                reason = error.strerror or error
                self._failed[key] = (
                    f"the overview of {path.name} cannot be kept in {self._folder} ({reason}): free some space"
                )
            except Exception:
                _LOGGER.exception("no overview of %s", path)
                self._failed[key] = f"no overview of {path.name} can be made: the console of the app says why"
            finally:
                with self._guard:
                    del self._progress[key]

    def _make(self, key: str, path: Path) -> None:
        def report(done: float) -> None:
            self._progress[key] = done

        with open_slide(path) as slide:
            if slide.fingerprint == key and slide.needs_overview:
                slide.write_overview(self._folder / f"{key}.rgb", report)
        self._keep_within_bounds(key)

    def _keep_within_bounds(self, key: str) -> None:
        facts = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                facts.append((path, path.stat()))
        size = sum(fact.st_size for _, fact in facts)
        for path, fact in sorted(facts, key=lambda found: found[1].st_mtime_ns):
            if size > self._limit and path.stem != key:
                with suppress(OSError):  # in use, on some systems
                    path.unlink()
                    size -= fact.st_size


def _step_back() -> None:
    """Let other threads go first, where a thread has a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
