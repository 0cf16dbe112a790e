"""Trainings seen from the web: each a folder and the command a person would type; the folder is the truth."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lpd.errors import LpdError
from lpd.recipe.run_files import LAST, RESUME
from lpd.runs import forget_end, is_alive, request_stop, write_json_atomically
from viewers.children import EXIT_NAME, Children
from viewers.errors import NotFoundError
from viewers.file_names import is_plain_name, require_plain_name
from viewers.job_log import log_lines, where
from viewers.processes import signal_group
from viewers.train.records import RECORD, STOP_WANTED, Training, is_training, read_training

_DELETED = ".deleted-"
#: A process that has said how its run ended is gone by then.
_END_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Wish:
    """A training that somebody asked for: ``arguments`` are those of ``lpd`` but for ``--out``."""

    name: str
    data: str
    data_id: str
    arguments: tuple[str, ...]
    user: str = ""


class Trainings:
    """Starts, finds, stops and deletes trainings below ``folder``; holds nothing that a restart would lose.

    Args:
        folder: of the runs; made when the first one starts.
        command: how to call ``lpd``; the default runs the package beside this one with the same Python.
    """

    def __init__(self, folder: Path, command: tuple[str, ...] = (sys.executable, "-m", "lpd")) -> None:
        self.folder = folder.resolve()
        self.command = command
        self._children = Children()
        self._guard = threading.Lock()
        for left in self.folder.glob(f"{_DELETED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for training in self.all():
            if not training.run.ended and (training.folder / STOP_WANTED).exists():  # the app ended before it had
                self._keep_asking(training.name)

    def start(self, wish: Wish) -> Training:
        """Start a training and return at once; it waits by itself for the device.

        Raises:
            LpdError: the name cannot be used or is taken, the folder cannot be written, or no process can be started.
        """
        folder = self.new_folder(wish.name)
        argv = (*self.command, *wish.arguments, "--out", str(folder))
        now = time.time()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise LpdError(_taken(wish.name)) from None
        except OSError as error:
            raise LpdError(f"cannot make {where(folder, '')} ({error.strerror}): check the disk") from error
        record = {"created": now, "asked": now, "user": wish.user, "data": wish.data, "data_id": wish.data_id}
        try:
            write_json_atomically(folder / RECORD, {**record, "argv": argv})
            self._children.start(wish.name, argv, folder)
        except LpdError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.get(wish.name)

    def new_folder(self, name: str) -> Path:
        """Where a training of that name will lie.

        Raises:
            LpdError: it cannot be a name, or a training has it.
        """
        require_plain_name(name, "a training's name")
        if (self.folder / name).exists():
            raise LpdError(_taken(name))
        return self.folder / name

    def go_on(self, name: str) -> Training:
        """Give the command of a training that has ended again: it goes on where it last saved itself.

        Raises:
            NotFoundError: there is no such training.
            LpdError: it is at work or finished, or its folder cannot be written.
        """
        with self._guard:  # who comes second finds it at work
            return self._go_on(name)

    def _go_on(self, name: str) -> Training:
        training = self._at_rest(name)
        if not training.can_go_on:
            why = "is finished" if training.run.state == "done" else "was started in a terminal: go on with it there"
            raise LpdError(f"training {name} {why}")
        argv = _with_folder(training)
        folder = training.folder
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            for left in (EXIT_NAME, STOP_WANTED):
                (folder / left).unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise LpdError(f"the record of training {name} cannot be changed ({error}): delete it") from error
        forget_end(folder)
        write_json_atomically(folder / RECORD, {**record, "asked": time.time()})
        self._children.start(name, (*argv, *_how_to_go_on(folder)), folder)
        return self.get(name)

    def get(self, name: str) -> Training:
        """One training, as it is now.

        Raises:
            NotFoundError: there is no such training, or its record cannot be read.
        """
        folder = self.folder / name
        if not is_plain_name(name) or not is_training(folder):
            raise NotFoundError(f"there is no training {name[:80]!r}: it may have been deleted, so reload the page")
        return read_training(folder, child=name in self._children)

    def all(self) -> list[Training]:
        """Trainings on disk, newest first. Unreadable ones are left out."""
        try:
            names = [path.name for path in self.folder.iterdir() if is_plain_name(path.name)]
        except OSError:  # the folder comes with the first training
            return []
        found = []
        for name in names:
            with suppress(NotFoundError):
                found.append(self.get(name))
        return sorted(found, key=lambda training: (-training.created, training.name))

    def stop(self, name: str) -> Training:
        """Ask a training to save what it has learned and end; returns at once. It may take minutes to score itself.

        Raises:
            NotFoundError: there is no such training.
            LpdError: its folder cannot be written.
        """
        training = self.get(name)
        if not training.run.ended:
            self._note_wish(training)
            self._keep_asking(name)
        return self.get(name)

    def kill(self, name: str) -> Training:
        """End a training's processes by force; what it saved last stays.

        Raises:
            NotFoundError: there is no such training.
            LpdError: its folder cannot be written.
        """
        training = self.get(name)
        if not training.run.ended:
            self._note_wish(training)
            child = self._children.pid(name)
            pids = [child] if child else []
            if training.run.pid and is_alive(training.folder):
                pids.append(training.run.pid)
            ended = [_end_by_force(pid) for pid in dict.fromkeys(pids)]
            if not any(ended):  # nobody knows its process yet, or it leads no group, as in a script: ask at least
                self._keep_asking(name)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a training that has ended, with all its files.

        Raises:
            NotFoundError: there is no such training.
            LpdError: it is at work, or its folder cannot be deleted.
        """
        gone = self.folder / f"{_DELETED}{secrets.token_hex(6)}"
        with self._guard:  # nobody goes on with it meanwhile, which would bring half of it back
            training = self._at_rest(name)
            try:
                training.folder.rename(gone)  # at once, so that nobody sees half a training
            except OSError as error:
                raise LpdError(f"{where(training.folder, '')} cannot be deleted ({error.strerror})") from error
        shutil.rmtree(gone, ignore_errors=True)

    def log_tail(self, name: str, lines: int = 60) -> str:
        """The last lines of what the command printed."""
        return "\n".join(log_lines(self.get(name).folder)[-lines:])

    def _at_rest(self, name: str) -> Training:
        if self.get(name).run.ended:
            self._children.gone(name, _END_PATIENCE_S)  # it has said how it ended, and is just ending
        training = self.get(name)
        if not training.run.ended or name in self._children or is_alive(training.folder):
            raise LpdError(f"training {name} is at work: stop it first")
        return training

    def _note_wish(self, training: Training) -> None:
        try:
            (training.folder / STOP_WANTED).touch()
        except OSError as error:
            raise LpdError(
                f"cannot write to {where(training.folder, '')} ({error.strerror}): check the disk"
            ) from error

    def _keep_asking(self, name: str) -> None:
        threading.Thread(target=self._ask, args=(name,), name=f"stop {name}", daemon=True).start()

    def _ask(self, name: str) -> None:
        # Again and again: a run that is just starting clears requests that came before it.
        with suppress(NotFoundError):
            while not (training := self.get(name)).run.ended and (training.folder / STOP_WANTED).exists():
                with suppress(OSError):
                    request_stop(training.folder)
                time.sleep(0.3)


def _end_by_force(pid: int) -> bool:
    try:
        signal_group(pid, force=True)
    except OSError:  # it leads no group, or ended between the look and the signal
        return False
    return True


def _with_folder(training: Training) -> tuple[str, ...]:
    """The command of a training, for where its folder lies now: somebody may have renamed it."""
    argv = list(training.argv)
    if "--out" in argv[:-1]:
        argv[argv.index("--out") + 1] = str(training.folder)
    return tuple(argv)


def _how_to_go_on(folder: Path) -> tuple[str, ...]:
    if (folder / RESUME).is_file():
        return ("--resume",)
    return ("--force",) if (folder / LAST).is_file() else ()


def _taken(name: str) -> str:
    return f"there is a training {name} already: choose another name"
