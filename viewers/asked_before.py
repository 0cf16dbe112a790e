"""What is asked for once more: a result that is there is shown, one that was begun is gone on with."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Literal

import lpd
from lpd.errors import LpdError
from lpd.inference.store import ResultStore
from lpd.model.header import file_digest
from viewers.jobs import CANCEL_NAME, REGIONS_NAME, Job, JobRequest, Jobs, segment_arguments

#: A new job; one that is at work or done already; one that had ended before it was done, and goes on.
Found = Literal["new", "there", "going on"]
#: Two people who press the same button at the same time shall not begin two jobs.
_ONE_AT_A_TIME = threading.Lock()


def obtain(jobs: Jobs, request: JobRequest, fingerprint: str, *, anew: bool = False) -> tuple[Job, Found]:
    """A job that does what is asked for: one that was asked for before if that will do, else a new one.

    Jobs of others are shown, but only one's own are gone on with.

    Args:
        fingerprint: of the slide as it is now.
        anew: begin a new one in any case.

    Raises:
        LpdError: the folder cannot be written or the process cannot be started.
    """
    with _ONE_AT_A_TIME:
        same = [] if anew else [job for job in jobs.all(request.slide_id) if _asks_the_same(job, request)]
        there = next(_there(same, request, fingerprint), None)
        if there is not None:
            return there, "there"
        begun = next((job for job in same if job.user == request.user and _begun(job, request, fingerprint)), None)
        return (jobs.start(request), "new") if begun is None else (jobs.go_on(begun), "going on")


def _asks_the_same(job: Job, request: JobRequest) -> bool:
    """Whether a job is of the very same command."""
    wanted = segment_arguments(request, job.folder, job.folder.parent)
    if job.argv[-len(wanted) :] != wanted:
        return False
    if not request.polygons:
        return True
    try:
        drawn = json.loads((job.folder / REGIONS_NAME).read_text(encoding="utf-8"))["coordinates"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(drawn == json.loads(json.dumps(request.polygons)))


def _there(same: list[Job], request: JobRequest, fingerprint: str) -> Iterator[Job]:
    yield from (job for job in same if not job.run.ended and not (job.folder / CANCEL_NAME).exists())
    for job in same:
        store = _result(job, request, fingerprint) if job.run.state == "done" else None
        if store is not None and store.changes().complete:
            yield job


def _begun(job: Job, request: JobRequest, fingerprint: str) -> bool:
    if not job.run.ended or job.run.state == "done":
        return False
    store = _result(job, request, fingerprint)
    return store is not None and store.changes().revision > 0


def _result(job: Job, request: JobRequest, fingerprint: str) -> ResultStore | None:
    """The job's result, if it is of the slide and the model as they are now, and by this lpd."""
    try:
        store = ResultStore.open(job.run_folder)
        made_of = store.meta.slide_fingerprint, store.meta.checkpoint_digest, store.meta.made_by
        return store if made_of == (fingerprint, file_digest(request.checkpoint_path), lpd.__version__) else None
    except LpdError:  # nobody has got so far, or it cannot be read
        return None
