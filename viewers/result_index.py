"""ResultIndex: which slides have been segmented by which model, from the jobs' own records; no result is opened."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from viewers.errors import NotFoundError
from viewers.jobs import Job, Jobs


@dataclass(frozen=True)
class _Seen:
    job: Job
    stamp: int


class ResultIndex:
    """What has ended is looked at once, so that thousands of results are listed at once; thread-safe.

    The first look, a second or two where there are thousands, begins when the index is made.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._seen: dict[str, _Seen] = {}
        self._guard = threading.Lock()
        threading.Thread(target=self._all, name="look at results", daemon=True).start()

    def by_slide(self) -> dict[str, list[dict[str, Any]]]:
        """By slide id, the newest job of each model, the newest first, as plain JSON."""
        newest: dict[str, dict[str, Job]] = defaultdict(dict)
        for job in self._all():
            newest[job.slide_id].setdefault(job.checkpoint, job)
        return {slide: [_entry(job) for job in jobs.values()] for slide, jobs in newest.items()}

    def _all(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._guard:
            seen = {job_id: self._look(job_id) for job_id in self._jobs.ids()}
            self._seen = {job_id: found for job_id, found in seen.items() if found is not None}
            return [found.job for found in self._seen.values()]

    def _look(self, job_id: str) -> _Seen | None:
        known = self._seen.get(job_id)
        if known and known.job.run.ended and known.stamp == _stamp(known.job):
            return known
        try:
            job = self._jobs.get(job_id)
        except NotFoundError:  # unreadable, or deleted meanwhile
            return None
        return _Seen(job, _stamp(job))


def _stamp(job: Job) -> int:
    """When the job's state was written last; 0 if it never was."""
    with suppress(OSError):
        return (job.run_folder / "state.json").stat().st_mtime_ns
    return 0


def _entry(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "checkpoint": job.checkpoint,
        "state": job.run.state,
        "created": job.created,
        "updated": job.run.updated,
        "region": job.region_l0 is not None,
    }
