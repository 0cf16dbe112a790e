"""Results with maps of prototypes, and what has been worked out of them: a look at all maps is made once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lpd.errors import LpdError, OutdatedError, ResultError
from lpd.explain.slide_figures import SlideFigures, pooled_figures
from lpd.inference.store import ResultStore
from lpd.model.names import names_of
from viewers.jobs import Job
from viewers.services import Services
from viewers.turns import stop_if_abandoned

T = TypeVar("T")
#: Which slides count: that of a result, those of its folder, or all.
Over = Literal["slide", "folder", "all"]
_KEPT = 64
#: Over several slides of a model so many results are looked at at most, the newest.
MOST_SLIDES = 50


@dataclass(frozen=True)
class Mapped:
    """One open result with maps; ``key`` changes with what is in it."""

    job: Job
    store: ResultStore
    key: tuple[str, str, int]


@dataclass(frozen=True)
class PrototypeResults:
    """Opens results, and keeps answers about them by what was asked."""

    services: Services
    _answers: OrderedDict[tuple[object, ...], Any] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def opened(self, job_id: str) -> Iterator[Mapped]:
        """A result, for a ``with`` block.

        Raises:
            NotFoundError, NotReadyError, ResultError: there is none, or it has no maps.
        """
        job = self.services.jobs.get(job_id)
        with self.services.result(job) as store:
            if store.prototypes is None:
                raise ResultError(f"the result of {job.checkpoint} has no maps of prototypes: compute them in Compare")
            new = store.changes()
            yield Mapped(job, store, (job.id, new.run, new.revision))

    def once(self, key: tuple[object, ...], work: Callable[[], T]) -> T:
        """An answer, worked out if nobody has asked before; one at a time, since each takes a core."""
        with self._guard:
            stop_if_abandoned()  # it may have waited for others' answers
            if key not in self._answers:
                self._answers[key] = work()
                while len(self._answers) > _KEPT:
                    self._answers.popitem(last=False)
            self._answers.move_to_end(key)
            found: T = self._answers[key]
            return found

    @contextmanager
    def opened_over(self, job_id: str, over: Over) -> Iterator[list[Mapped]]:
        """A result, and those of the very same model on other slides; one of each slide, itself first."""
        with ExitStack() as stack:
            first = stack.enter_context(self.opened(job_id))
            others = [] if over == "slide" else self.fellows(first, over)
            yield [first, *(stack.enter_context(self.opened(one)) for one in others)]

    def fellows(self, first: Mapped, over: Over) -> list[str]:
        """Results of the very same model on other slides that are there: of each the newest that was computed whole,
        else the newest."""
        folders = {file.id: file.folder for file in self.services.catalogue.files()}
        own = folders.get(first.job.slide_id)
        wanted = {slide for slide, folder in folders.items() if over == "all" or folder == own} - {first.job.slide_id}
        found: dict[str, str] = {}
        for job in sorted(self.services.index.all(), key=_is_part):  # the newest first, among both
            known = job.slide_id in found or job.slide_id not in wanted
            if known or job.checkpoint != first.job.checkpoint or not job.run.ended or len(found) >= MOST_SLIDES - 1:
                continue
            try:
                with self.opened(job.id) as other:
                    if other.store.meta.checkpoint_digest == first.store.meta.checkpoint_digest:
                        found[job.slide_id] = job.id
            except LpdError:  # one that cannot be read, or has no maps, is not missed
                continue
        return list(found.values())

    def figures(self, found: Sequence[Mapped]) -> SlideFigures:
        """Figures of merit of results of one model, together."""
        key = ("figures", *(one.key for one in found))
        return self.once(key, lambda: pooled_figures([one.store for one in found]))

    def names(self, mapped: Mapped) -> tuple[dict[int, str], str]:
        """What people call the prototypes of the result's model, by number, and why there are none if that is odd."""
        try:
            same = self.services.checkpoints.same(mapped.job.checkpoint, mapped.store.meta.checkpoint_digest)
        except OutdatedError as error:
            return {}, str(error)
        except (LpdError, OSError):  # the model is gone
            return {}, ""
        found = names_of(same)
        return {m: name.name for m, name in found.by_number.items()}, found.problem

    def is_replaced(self, mapped: Mapped) -> bool:
        """Whether the name of the result's model belongs to another file by now, whose maps were not computed."""
        try:
            self.services.checkpoints.same(mapped.job.checkpoint, mapped.store.meta.checkpoint_digest)
        except OutdatedError:
            return True
        except (LpdError, OSError):  # the model is gone
            return False
        return False

    def called(self, mapped: Mapped) -> list[str]:
        """A name for each prototype: the given one, or class and number."""
        assert mapped.store.prototypes is not None
        maps, codes = mapped.store.prototypes.maps, mapped.store.meta.classes.codes
        given, _ = self.names(mapped)
        plain = (f"{codes[m // maps.per_class]} {m % maps.per_class + 1}" for m in range(maps.count))
        return [given.get(m) or name for m, name in enumerate(plain)]


def _is_part(job: Job) -> bool:
    return job.region_l0 is not None or job.polygons > 0 or job.run.state != "done"
