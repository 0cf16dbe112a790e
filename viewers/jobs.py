"""Jobs: segmentations seen from the web, each a folder and the command a person would type; the folder is the truth."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.runs import RunState, StateName, forget_end, is_alive, read_state, request_stop, write_json_atomically
from viewers.children import EXIT_NAME, Children
from viewers.errors import NotFoundError
from viewers.job_log import log_lines, reason, where
from viewers.lines import InLine
from viewers.processes import signal_group

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
#: How a run reports an error that is not one of ours: by the name of its class.
_UNEXPECTED = re.compile(r"\w+(Error|Exception|Warning|Exit|Iteration): ")
_JOB, CANCEL_NAME = "job.json", "cancel"
REGIONS_NAME = "regions.geojson"

#: A job without a run folder, started by an app that is gone, counts as dead after this long.
_START_PATIENCE_S = 120.0
#: A process that has said how its run ended is gone by then.
_END_PATIENCE_S = 10.0


@dataclass(frozen=True)
class JobRequest:
    """What a person asked for.

    ``region_l0`` is (x, y, width, height) in level-0 pixels; ``polygons`` are GeoJSON coordinates of polygons in them;
    the whole slide if there is neither. ``user`` is who asked, empty where people have no names. ``prototype_maps``
    are kept beside the mask if asked for. ``made_of`` says which slide file, which checkpoint file and which lpd this
    is about, so that a like request can be told from it.
    """

    slide_id: str
    slide_path: Path
    checkpoint_path: Path
    device: str = "auto"
    mpp: float | None = None
    region_l0: tuple[int, int, int, int] | None = None
    user: str = ""
    polygons: Sequence[Any] = ()
    prototype_maps: bool = False
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One job as its folder tells it."""

    id: str
    folder: Path
    slide_id: str
    slide_name: str
    checkpoint: str
    device: str
    mpp: float | None
    region_l0: tuple[int, int, int, int] | None
    created: float
    argv: tuple[str, ...]
    run: RunState
    user: str = ""
    polygons: int = 0
    made_of: tuple[str, ...] = ()

    @property
    def run_folder(self) -> Path:
        """Where the command writes: the run's state and the result."""
        return _run_folder(self.folder, self.slide_name)

    @property
    def line(self) -> str:
        """The device it computes on or waits for; empty until the command has said what ``auto`` is here."""
        return self.run.device or ("" if self.device == "auto" else self.device)

    @property
    def in_line(self) -> InLine:
        """Where it stands."""
        return InLine(self.id, self.line, self.created, self.run.state == "queued")


class Jobs:
    """Starts, finds, and stops jobs below ``folder``; holds nothing that a restart would lose.

    Args:
        folder: results folder; made if missing.
        command: how to call ``lpd``; the default runs the package beside this one with the same Python.
        stop_patience_s: how long a job that shall stop may ignore a request, and then a SIGTERM, before it is killed.

    Raises:
        LpdError: ``folder`` cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        command: tuple[str, ...] = (sys.executable, "-m", "lpd"),
        stop_patience_s: tuple[float, float] = (15.0, 10.0),
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LpdError(
                f"cannot make the results folder {folder} ({error.strerror}): name another one with --results"
            ) from error
        self.folder = folder.resolve()
        self.command = command
        self._children = Children()
        self._stop_patience_s = stop_patience_s
        for job in self.all():
            if not job.run.ended and (job.folder / CANCEL_NAME).exists():  # the app ended before it had stopped the job
                self._see_to_the_end(job.id)

    def start(self, request: JobRequest) -> Job:
        """Start a job and return at once.

        Raises:
            LpdError: the folder cannot be written or the process cannot be started.
        """
        job_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder = self.folder / job_id
        argv = (*self.command, *segment_arguments(request, folder, self.folder))
        record = {
            "slide_id": request.slide_id,
            "slide_name": request.slide_path.name,
            "checkpoint": request.checkpoint_path.stem,
            "device": request.device,
            "mpp": request.mpp,
            "region_l0": request.region_l0,
            "polygons": len(request.polygons),
            "created": time.time(),
            "user": request.user,
            "made_of": request.made_of,
            "argv": argv,
        }
        if request.polygons:
            write_json_atomically(folder / REGIONS_NAME, {"type": "MultiPolygon", "coordinates": request.polygons})
        write_json_atomically(folder / _JOB, record)
        try:
            self._children.start(job_id, argv, folder)
        except LpdError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.get(job_id)

    def go_on(self, job: Job) -> Job:
        """Give the command of a job that has ended again, which goes on with what is in its folder; return at once.

        Raises:
            LpdError: its folder cannot be written, its process has not ended yet, or none can be started.
        """
        if not self._children.gone(job.id, _END_PATIENCE_S):  # it has said how it ended, and is just ending
            raise LpdError(f"the work on {job.slide_name} is still being stopped: try again in a moment")
        path = job.folder / _JOB
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            for name in (EXIT_NAME, CANCEL_NAME):
                (job.folder / name).unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise LpdError(f"the record of result {job.id} cannot be changed ({error}): delete its folder") from error
        forget_end(job.run_folder)
        write_json_atomically(path, {**record, "created": time.time()})  # its place in the queue is the last
        self._children.start(job.id, job.argv, job.folder)
        return self.get(job.id)

    def get(self, job_id: str) -> Job:
        """One job, as it is now.

        Raises:
            NotFoundError: there is no such job, or its record cannot be read.
        """
        folder = self.folder / job_id
        if not _ID.fullmatch(job_id) or not (folder / _JOB).is_file():
            raise NotFoundError(f"there is no result {job_id[:40]!r}: it may have been deleted, so reload the page")
        try:
            data: Mapping[str, Any] = json.loads((folder / _JOB).read_text(encoding="utf-8"))
            region = data["region_l0"]
            job = Job(
                id=job_id,
                folder=folder,
                slide_id=str(data["slide_id"]),
                slide_name=str(data["slide_name"]),
                checkpoint=str(data["checkpoint"]),
                device=str(data["device"]),
                mpp=None if data["mpp"] is None else float(data["mpp"]),
                region_l0=None if region is None else (int(region[0]), int(region[1]), int(region[2]), int(region[3])),
                created=float(data["created"]),
                argv=tuple(str(part) for part in data["argv"]),
                run=RunState(),
                user=str(data.get("user", "")),
                polygons=int(data.get("polygons", 0)),
                made_of=tuple(str(part) for part in data.get("made_of", ())),
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise NotFoundError(f"the record of result {job_id} cannot be read ({error}): delete its folder") from error
        return replace(job, run=self._state(job))

    def all(self, slide_id: str | None = None) -> list[Job]:
        """Jobs on disk, newest first; those of one slide if ``slide_id`` is given. Unreadable ones are left out."""
        jobs = []
        for name in self.ids():
            try:
                jobs.append(self.get(name))
            except NotFoundError:
                continue
        return [job for job in jobs if slide_id in (None, job.slide_id)]

    def ids(self) -> list[str]:
        """Ids of the job folders on disk, newest first."""
        try:
            return sorted((p.name for p in self.folder.iterdir() if _ID.fullmatch(p.name)), reverse=True)
        except (FileNotFoundError, NotADirectoryError):  # deleted while the app runs; the next start makes it anew
            return []

    def cancel(self, job_id: str) -> Job:
        """Ask a job to save what it has and stop; it is stopped by force if it does not react. Returns at once.

        Raises:
            NotFoundError: there is no such job.
            LpdError: its folder cannot be written.
        """
        job = self.get(job_id)
        if not job.run.ended:
            try:
                (job.folder / CANCEL_NAME).touch()
            except OSError as error:
                reason = f"cannot write to {where(job.folder, '')} ({error.strerror})"
                raise LpdError(f"{reason}: check the disk, then cancel again") from error
            self._see_to_the_end(job_id)
        return self.get(job_id)

    def log_tail(self, job_id: str, lines: int = 40) -> str:
        """The last lines of what the command printed."""
        return "\n".join(log_lines(self.get(job_id).folder)[-lines:])

    def _state(self, job: Job) -> RunState:
        try:
            state = read_state(job.run_folder)
        except LpdError as error:
            return RunState(state="failed", message=str(error))
        cancelled = (job.folder / CANCEL_NAME).exists()
        if state.state == "new":
            return self._state_before_run(job, cancelled)
        if state.state == "crashed" and cancelled:
            return replace(state, state="cancelled")
        if state.state == "crashed" and job.id in self._children:  # the command has lost its worker, and goes on itself
            return replace(state, state="queued", message="Going on …")
        if state.state == "crashed":
            return replace(
                state, message=f"The work ended unexpectedly: start it again, or look at {where(job.folder)}."
            )
        if state.state == "failed" and _UNEXPECTED.match(state.message):
            return replace(state, message=f"Something unexpected went wrong: {where(job.folder)} says what.")
        return replace(state, message="Stopping …") if cancelled and not state.ended else state

    def _state_before_run(self, job: Job, cancelled: bool) -> RunState:
        """State of a job whose command has not made its run folder: starting, or ended on the way."""
        name: StateName = "queued"
        message = "Stopping …" if cancelled else "Starting …"
        ended = (job.folder / EXIT_NAME).exists()
        orphaned = job.id not in self._children and time.time() - job.created > _START_PATIENCE_S
        if ended or orphaned:
            name = "cancelled" if cancelled else "failed"
            message = "" if cancelled else reason(job.folder)
            if _went_well(job.folder):  # of a job that is gone on with: nothing was left to do
                name, message = "done", ""
        return RunState(kind="segment", state=name, message=message, started=job.created, updated=job.created)

    def _see_to_the_end(self, job_id: str) -> None:
        threading.Thread(target=self._stop, args=(job_id,), name=f"stop {job_id}", daemon=True).start()

    def _stop(self, job_id: str) -> None:
        ways: tuple[Callable[[Job], None], ...] = (_ask, self._terminate, self._kill)
        for way, patience_s in zip(ways, (*self._stop_patience_s, 0.0), strict=True):
            deadline = time.monotonic() + patience_s
            while True:
                try:
                    job = self.get(job_id)
                except NotFoundError:
                    return
                if job.run.ended or not (job.folder / CANCEL_NAME).exists():  # it is wanted again
                    return
                way(job)
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.3)

    def _terminate(self, job: Job) -> None:
        self._signal(job, force=False)

    def _kill(self, job: Job) -> None:
        self._signal(job, force=True)

    def _signal(self, job: Job, *, force: bool) -> None:
        child = self._children.pid(job.id)
        pids = [child] if child else []
        # Whoever computes may be a worker that the command has handed the slide to: asked when there is no command
        # left to ask, and ended only with a command that has not ended.
        # Once all is computed and files are written, it may be at work on the next job: then it is let be.
        computing = not 0 < job.run.progress.total <= job.run.progress.done
        if job.run.pid and is_alive(job.run_folder) and (not child or (force and computing)):
            pids.append(job.run.pid)
        for pid in pids:
            with suppress(OSError):  # it ended between the look and the signal
                signal_group(pid, force=force)


def segment_arguments(request: JobRequest, out: Path, queue: Path) -> tuple[str, ...]:
    """Arguments of ``lpd`` for a request, as a person would type them; ``queue`` is where the lines of devices are."""
    arguments = ["segment", str(request.slide_path), "--checkpoint", str(request.checkpoint_path), "--out", str(out)]
    arguments += ["--device", request.device, "--queue", str(queue), "--resident", "start"]
    if request.region_l0 is not None:
        arguments += ["--region", *(str(v) for v in request.region_l0)]
    if request.polygons:
        arguments += ["--regions", str(out / REGIONS_NAME)]
    if request.mpp is not None:
        arguments += ["--mpp", str(request.mpp)]
    if request.prototype_maps:
        arguments += ["--prototype-maps"]
    return tuple(arguments)


def describe(job: Job) -> dict[str, Any]:
    """A job as plain JSON for the page; paths stay on the server."""
    return {
        "id": job.id,
        "slide_id": job.slide_id,
        "slide_name": job.slide_name,
        "checkpoint": job.checkpoint,
        "region_l0": job.region_l0,
        "polygons": job.polygons,
        "created": job.created,
        "user": job.user,
        "maps_wanted": "--prototype-maps" in job.argv,
        "device": job.line,
        "state": job.run.state,
        "ended": job.run.ended,
        "message": job.run.message,
        "progress": asdict(job.run.progress),
        "updated": job.run.updated,
    }


def _ask(job: Job) -> None:
    # Again and again: a run that is just starting clears requests that came before it.
    if job.run_folder.is_dir():
        with suppress(OSError):  # where nothing can be written, the signals that follow must do
            request_stop(job.run_folder)


def _run_folder(folder: Path, slide_name: str) -> Path:
    return folder / Path(slide_name).stem


def _went_well(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / EXIT_NAME).read_text(encoding="utf-8"))["exit_code"] == 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
