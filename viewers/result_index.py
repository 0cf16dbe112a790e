"""ResultIndex: all jobs and what is said of their results, read again only when a folder has changed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from viewers.errors import NotFoundError
from viewers.jobs import Job, Jobs

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class _Seen:
    job: Job
    stamp: _Stamp
    said: dict[str, Any] = field(default_factory=dict)


class ResultIndex:
    """What has ended is looked at once, so that thousands of results are listed at once; thread-safe.

    The first look, a second or two where there are thousands, begins when the index is made.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._seen: dict[str, _Seen] = {}
        self._guard = threading.Lock()
        threading.Thread(target=self.all, name="look at results", daemon=True).start()

    def all(self) -> list[Job]:
        """All jobs, the newest first. Unreadable ones are left out."""
        with self._guard:
            seen = {job_id: self._look(job_id) for job_id in self._jobs.ids()}
            self._seen = {job_id: found for job_id, found in seen.items() if found is not None}
            return [found.job for found in self._seen.values()]

    def by_slide(self) -> dict[str, list[dict[str, Any]]]:
        """By slide id, the newest job of each model, the newest first, as plain JSON."""
        newest: dict[str, dict[str, Job]] = defaultdict(dict)
        for job in self.all():
            newest[job.slide_id].setdefault(job.checkpoint, job)
        return {slide: [_entry(job) for job in jobs.values()] for slide, jobs in newest.items()}

    def said_once(self, job: Job, say: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``say`` tells of a job that has ended; remembered until a file comes to or leaves its folders.

        Of any other job it is asked each time.
        """
        if not job.run.ended:
            return say()
        seen = self._seen.get(job.id)
        if seen is None or not seen.job.run.ended or seen.stamp != _stamp(job):
            return say()
        if not seen.said:
            seen.said.update(say())
        return dict(seen.said)

    def _look(self, job_id: str) -> _Seen | None:
        known = self._seen.get(job_id)
        if known and known.job.run.ended and known.stamp == _stamp(known.job):
            return known
        try:
            job = self._jobs.get(job_id)
        except NotFoundError:  # unreadable, or deleted meanwhile
            return None
        return _Seen(job, _stamp(job))


def _stamp(job: Job) -> _Stamp:
    """When the job's state was written last, and when a file was last put into or taken from its two folders."""
    return _time(job.run_folder / "state.json"), _time(job.folder), _time(job.run_folder)


def _time(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _entry(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "checkpoint": job.checkpoint,
        "state": job.run.state,
        "created": job.created,
        "updated": job.run.updated,
        "region": job.region_l0 is not None or job.polygons > 0,
        "user": job.user,
    }
