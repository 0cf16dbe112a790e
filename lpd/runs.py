"""A run is a folder: one process writes its state, anyone may read it, ask it to stop, or see that it died."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from filelock import FileLock, Timeout

from lpd.errors import LpdError, RunError

StateName = Literal["new", "queued", "running", "done", "cancelled", "failed", "crashed"]
ENDED: frozenset[str] = frozenset({"done", "cancelled", "failed", "crashed"})

_STATE_FILE = "state.json"
_LOCK_FILE = "run.lock"
_STOP_FILE = "stop"
_TEMPORARY = ".unfinished-"  # what a killed process leaves behind, for its successor to delete


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``rate`` in units per second, ``eta_s`` in seconds, both None until known."""

    done: int = 0
    total: int = 0
    unit: str = "tiles"
    rate: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True)
class DeviceLine:
    """The line for one device: of the runs that name the same folder and device one computes, the others wait.

    Attributes:
        folder: where the line's lock lies; an app's segmentations, trainings and so on all name the same one.
        device: ``cpu``, ``cuda`` or ``mps``, never ``auto``: the type of what
            :func:`lpd.inference.devices.choose_device` gives.
    """

    folder: Path
    device: str

    @property
    def lock(self) -> Path:
        return self.folder / f"device-{self.device}.lock"


@dataclass(frozen=True)
class RunState:
    """What a run says of itself; times are Unix seconds, ``device`` is that of the line it waits or waited in."""

    kind: str = ""
    state: StateName = "new"
    message: str = ""
    progress: Progress = field(default_factory=Progress)
    pid: int = 0
    device: str = ""
    started: float = 0.0
    updated: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def read_state(folder: Path) -> RunState:
    """State of the run in ``folder``; ``crashed`` if it claims to be active but nobody holds its lock.

    Raises:
        RunError: the state file exists but is not ours.
    """
    state = _said(folder / _STATE_FILE)
    if state.state in ("queued", "running") and not is_alive(folder):
        state = _said(folder / _STATE_FILE)  # once more: it may have ended properly between the two looks
        if state.state in ("queued", "running"):
            return replace(state, state="crashed", message=state.message or "the process ended without a word")
    return state


def _said(path: Path) -> RunState:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return RunState(**{**data, "progress": Progress(**data["progress"])})
    except FileNotFoundError:
        return RunState()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is not a readable run state ({error}): delete the folder or start anew") from error


def is_alive(folder: Path) -> bool:
    """True while a process holds the run's lock; the operating system frees it on any death."""
    path = folder / _LOCK_FILE
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def request_stop(folder: Path) -> None:
    """Ask a run to save what it has and stop; returns at once."""
    (folder / _STOP_FILE).touch()


def asked_to_stop(folder: Path) -> bool:
    """Whether somebody asked the run in a folder to stop since it began, by :func:`request_stop`."""
    return (folder / _STOP_FILE).exists()


def has_ended(folder: Path) -> bool:
    """Whether the run in a folder says itself that it has ended; of one that died without a word nothing is known.

    Raises:
        RunError: the state file exists but is not ours.
    """
    return _said(folder / _STATE_FILE).ended


def forget_end(folder: Path) -> None:
    """Forget how the run in a folder ended, before another one begins there: until then it counts as new.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        (folder / _STATE_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder} ({error.strerror or error}): choose another folder") from error


def clear_temporaries(folder: Path) -> None:
    """Delete what a killed process was writing in a folder, see :func:`replacing`; nobody else may write there."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        leftover.unlink()


def exists(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        RunError: the system does not say: a name is too long, or a folder may not be looked into.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RunError(f"cannot look at {path} ({error.strerror or error}): choose another folder") from error
    return True


def write_json_atomically(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    Raises:
        RunError: the disk is full, the folder cannot be written, or the data is no JSON (NaN, half a character).
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path} ({reason}): free some space or choose another folder") from error
    except ValueError as error:
        raise RunError(f"cannot write {path}: a name or number in it cannot be written as JSON ({error})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it if the block ends well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield temporary
        _replace_patiently(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace_patiently(source: Path, target: Path) -> None:
    # Windows refuses to replace a file that a reader holds open; readers here are brief.
    for attempt in range(20):
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.05)


class Run:
    """The worker's side of a run folder; use as a context manager around the work.

    Entering takes the run's lock (and waits in ``line`` for its device if given, as ``queued``) and makes SIGTERM and
    Ctrl-C stop requests until it is left; the device may be given back before, see :meth:`free_device`. Leaving writes
    the final state: ``done`` after :meth:`complete` or if nobody asked to stop, ``cancelled`` if somebody did,
    ``failed`` with the error's sentence.

    Raises:
        RunError: another process is working in this folder, or it cannot be written.
    """

    def __init__(self, folder: Path, kind: str, *, line: DeviceLine | None = None) -> None:
        self.folder = folder
        self._state = RunState(kind=kind, pid=os.getpid(), device=line.device if line else "")
        self._lock = FileLock(folder / _LOCK_FILE)
        self._line = line
        self._device_lock = FileLock(line.lock) if line else None
        self._stop = threading.Event()
        self._complete = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._clock: tuple[float, int] | None = None
        self._last_write = 0.0

    def __enter__(self) -> Run:
        self._take_folder()
        now = time.time()
        self._state = replace(self._state, state="queued", started=now, updated=now)
        self._write()
        self._catch_signals()
        try:
            self._wait_for_device()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self._state = replace(self._state, state="running")
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            cancelled = self.stop_requested() and not self._complete
            self._state = replace(self._state, state="cancelled" if cancelled else "done")
        elif isinstance(error, KeyboardInterrupt):
            self._state = replace(self._state, state="cancelled", message="interrupted")
        else:
            message = str(error) if isinstance(error, LpdError) else f"{type(error).__name__}: {error}"
            self._state = replace(self._state, state="failed", message=message)
        try:
            self._write()
            if self._state.state == "done":  # a stop request that came too late is of no use to anybody
                with suppress(OSError):
                    (self.folder / _STOP_FILE).unlink(missing_ok=True)
        except RunError:
            if error is None:  # else the first error is the one to hear of
                raise
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self.free_device()
            self._lock.release()

    def stop_requested(self) -> bool:
        """True once a person asked to stop, by :func:`request_stop`, SIGTERM or Ctrl-C. Cheap: ask per batch."""
        if not self._stop.is_set() and asked_to_stop(self.folder):
            self._stop.set()
        return self._stop.is_set()

    def complete(self) -> None:
        """All work is done: a stop request that came too late for it does not make the run a cancelled one."""
        self._complete = True

    def free_device(self) -> None:
        """The work left needs the device no more: whoever is next in line may have it now."""
        if self._device_lock is not None:
            self._device_lock.release()

    def say(self, message: str) -> None:
        """Set the one line that people read beside the state."""
        self._state = replace(self._state, message=message)
        self._write()

    def advance(self, done: int, total: int, unit: str = "tiles") -> Progress:
        """Report progress; writes to disk at most twice a second. Rate and ETA are measured from the first call."""
        now = time.monotonic()
        if self._clock is None:
            self._clock = (now, done)
        elapsed, since = now - self._clock[0], done - self._clock[1]
        rate = since / elapsed if elapsed > 0.2 and since > 0 else None
        progress = Progress(done, total, unit, rate, (total - done) / rate if rate else None)
        self._state = replace(self._state, progress=progress)
        if now - self._last_write > 0.5 or done >= total:
            self._write()
        return progress

    def _take_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=2)  # a reader's liveness check may hold it for an instant
            (self.folder / _STOP_FILE).unlink(missing_ok=True)
            clear_temporaries(self.folder)
        except Timeout:
            raise RunError(f"{self.folder} is in use by another run: wait for it, stop it, or choose another") from None
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"cannot work in {self.folder} ({reason}): choose another folder") from error

    def _write(self) -> None:
        if not (self.folder / _LOCK_FILE).exists():  # writing would bring back what a person threw away
            raise RunError(f"{self.folder} was deleted while a run worked in it: start it again")
        self._state = replace(self._state, updated=time.time())
        write_json_atomically(self.folder / _STATE_FILE, asdict(self._state))
        self._last_write = time.monotonic()

    def _wait_for_device(self) -> None:
        if self._line is None or self._device_lock is None:
            return
        try:
            with _waiting(self._line) as is_first:
                pause = 0.05
                while not (is_first() and _taken(self._device_lock)):
                    if self.stop_requested():
                        raise KeyboardInterrupt
                    time.sleep(pause)
                    pause = min(0.5, 1.1 * pause)  # who has waited long does not look often: many may wait
        except OSError as error:
            lock = self._device_lock.lock_file
            raise RunError(f"cannot wait for {lock} ({error.strerror or error}): name another folder") from error

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def ask(_signal: int, _frame: FrameType | None) -> None:
            self._stop.set()

        self._handlers = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}


@contextmanager
def _waiting(line: DeviceLine) -> Iterator[Callable[[], bool]]:
    """A place in a line: a file named by when it was taken, locked as long as somebody waits; tells if it is the first.

    A lock alone would go to whoever happens to try it next.
    """
    names = f"device-{line.device}-*.wait"
    own = line.folder / names.replace("*", f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}")
    lock = FileLock(own)
    lock.acquire(timeout=2)  # somebody who looks whether it is held may hold it for an instant
    while not own.exists():  # and takes it for that of a process which died
        lock.release()
        lock.acquire(timeout=2)
    try:
        yield lambda: not any(_is_held(path) for path in sorted(line.folder.glob(names)) if path.name < own.name)
    finally:
        lock.release()
        with suppress(OSError):
            own.unlink(missing_ok=True)


def _is_held(path: Path) -> bool:
    """Whether somebody waits by a file; that of a process which died is deleted."""
    if not _taken(lock := FileLock(path)):
        return True
    if os.name == "nt":  # which deletes no file that is open
        lock.release()
    with suppress(OSError):
        path.unlink(missing_ok=True)  # elsewhere while it is held, so that whoever waits for it finds that it is gone
    lock.release()
    return False


def _taken(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
