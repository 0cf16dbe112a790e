"""``lpd resident``: a process that keeps models loaded and segments what `lpd segment` and the app bring."""

from __future__ import annotations

import argparse
import hmac
import os
import secrets
import socketserver
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpd.cli.arguments import positive
from lpd.cli.crew import LOOK_S, ask_to_stop, attempt
from lpd.cli.resident_job import Job, to_message
from lpd.cli.resident_place import Card, Line, code_stamp, read_card, remove_card, resident_folder, write_card
from lpd.errors import LpdError
from lpd.runs import Run, request_stop

if TYPE_CHECKING:  # brings in torch
    from lpd.inference.backend import Backend
    from lpd.inference.settings import DeviceName

#: Models kept loaded, those used last: two can be compared in turn.
_MODELS = 2


def add_parser(commands: Any) -> None:
    """Add this command to the ``lpd`` command line."""
    parser = commands.add_parser(
        "resident",
        help="keep models loaded for the segmentations that follow",
        description="Run a worker that keeps models loaded: while it runs, `lpd segment` hands its slides over and "
        "begins at once. One slide is computed at a time on each device, others wait. It listens to this machine and "
        "this user only, and ends by itself when nothing is to be done.",
    )
    parser.add_argument(
        "--idle", type=positive, default=10, metavar="MIN", help="end after so many minutes without work (default: 10)"
    )
    parser.add_argument("--stop", action="store_true", help="end the one that runs; slides in hand save and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until there is nothing to do, or end the worker that serves.

    Returns:
        0; 1 if another one is already there, or there is none to stop.

    Raises:
        RunError: the worker's folder cannot be used, or another worker is in it.
    """
    folder = resident_folder()
    if args.stop:
        return 0 if _end(folder) else 1
    with Run(folder, "resident") as own:
        # What takes seconds to load, before anybody is told to come.
        import lpd.inference.backend
        import lpd.inference.pipeline  # noqa: F401

        with _Server() as server:
            card = Card(server.server_address[1], server.token, os.getpid(), server.stamp)
            write_card(folder, card)
            try:
                server.serve(args.idle * 60.0, own.stop_requested)
            finally:
                remove_card(folder)
        own.complete()
    return 0


def _end(folder: Path) -> bool:
    """Ask the worker to end and wait until it has; False if none runs."""
    card = read_card(folder)
    if card is None:
        return False
    while read_card(folder) == card:
        request_stop(folder)
        time.sleep(LOOK_S)
    return True


class _Server(socketserver.ThreadingTCPServer):
    """Takes one caller after the other, each in a thread of its own.

    Attributes:
        token, stamp: see :class:`~lpd.cli.resident_place.Card`.
        models: loaded ones.
        turn: held by whoever computes.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Caller)
        self.token, self.stamp = secrets.token_hex(16), code_stamp()
        self.models, self.turn = _Models(), threading.Lock()
        self._callers: set[_Caller] = set()
        self._used = time.monotonic()
        self.timeout = LOOK_S

    def serve(self, idle_s: float, stop_requested: Callable[[], bool]) -> None:
        """Take callers until nobody has come for so long, or somebody asks to stop; then slides in hand save."""
        while not stop_requested() and (self._callers or time.monotonic() - self._used < idle_s):
            self.handle_request()
        while self._callers:
            for caller in tuple(self._callers):
                caller.stop()
            time.sleep(LOOK_S)

    @contextmanager
    def serving(self, caller: _Caller) -> Iterator[None]:
        """Not idle, inside the block."""
        self._callers.add(caller)
        try:
            yield
        finally:
            self._used = time.monotonic()
            self._callers.discard(caller)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the caller is gone; what became of its slides is in their folders


class _Caller(socketserver.BaseRequestHandler):
    """One command that brings slides; when it goes away, the slide in hand saves and stops."""

    server: _Server

    def handle(self) -> None:
        line = Line(self.request)
        greeting = line.receive(greeting=True)
        if not greeting or not hmac.compare_digest(str(greeting.get("token")), self.server.token):
            return
        message = line.receive()
        if message is None:
            return
        if message.get("stamp") != self.server.stamp:
            line.send({"refused": "it runs other code"})
            return
        with self.server.serving(self):
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()
            self._work(line, Job.from_message(message["job"]))

    def stop(self) -> None:
        """Ask the slide in hand to save and stop, and begin no other; again and again, as a run that is just
        beginning forgets what was asked before."""
        self._stopping = True
        if self._folder is not None:
            ask_to_stop(self._folder)

    def setup(self) -> None:
        self._stopping = False
        self._folder: Path | None = None
        self._ended = threading.Event()

    def finish(self) -> None:
        self._ended.set()

    def _work(self, line: Line, job: Job) -> None:
        from lpd.cli.segmenting import Segmenter

        try:
            segmenter = Segmenter(job.args, quiet=True, load=self.server.models.loaded, turn=self.server.turn)
        except LpdError as error:
            line.send({"error": str(error)})
            return
        for slide, folder in job.folders.items():
            if self._stopping:
                return
            self._folder = folder
            line.send({"begins": str(folder)})
            outcome = attempt(slide, folder, partial(segmenter.segment, slide, folder))
            line.send({"outcome": to_message(outcome)})
            if outcome.asked_to_stop or outcome.state == "stopped":
                return

    def _listen(self, line: Line) -> None:
        """A caller says nothing more; what is heard is that it is gone."""
        line.receive()
        while not self._ended.wait(LOOK_S):
            self.stop()


class _Models:
    """Models by file and device; a file that was written anew is another model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[str, int, int, str], Backend] = OrderedDict()

    def loaded(self, path: Path, device: DeviceName) -> Backend:
        """See :func:`lpd.inference.backend.load_backend`."""
        from lpd.inference.backend import load_backend

        with self._lock:
            try:
                facts = path.stat()
            except OSError:
                return load_backend(path, device)  # which says what is wrong
            key = str(path.resolve()), facts.st_mtime_ns, facts.st_size, device
            backend = self._loaded.get(key)
            if backend is None:
                while len(self._loaded) >= _MODELS:
                    self._loaded.popitem(last=False)
                backend = self._loaded[key] = load_backend(path, device)
            self._loaded.move_to_end(key)
            return backend
