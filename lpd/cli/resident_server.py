"""The resident worker's server: takes commands that bring slides, keeps models loaded, computes one slide a device."""

from __future__ import annotations

import hmac
import secrets
import socketserver
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpd.cli.crew import LOOK_S, ask_to_stop, attempt
from lpd.cli.resident_job import Job, to_message
from lpd.cli.resident_place import Line, code_stamp
from lpd.cli.segmenting import Outcome, Segmenter
from lpd.errors import LpdError
from lpd.inference.backend import Backend, load_backend
from lpd.inference.cohort import CohortSlide
from lpd.inference.settings import DEVICES, DeviceName

#: Models kept loaded, those used last: two can be compared in turn.
_MODELS = 2
#: A caller says at once what it wants.
_PATIENCE_S = 5.0


class Server(socketserver.ThreadingTCPServer):
    """Takes one caller after the other, each in a thread of its own.

    Attributes:
        token, stamp: see :class:`~lpd.cli.resident_place.Card`.
        models: loaded ones.
        turns: by device, held by whoever computes there.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Caller)
        self.token, self.stamp = secrets.token_hex(16), code_stamp()
        self.models = Models()
        self.turns = {str(device): threading.Lock() for device in DEVICES if device != "auto"}
        self._connected: set[Any] = set()
        self._callers: set[_Caller] = set()
        self._used = time.monotonic()
        self.timeout = LOOK_S

    def serve(self, idle_s: float, stop_requested: Callable[[], bool]) -> None:
        """Take callers until nobody has come for so long, or somebody asks to stop; then slides in hand save."""
        while not stop_requested() and (self._connected or time.monotonic() - self._used < idle_s):
            self.handle_request()
        while self._connected:
            for caller in tuple(self._callers):
                caller.stop()
            time.sleep(LOOK_S)

    @contextmanager
    def serving(self, caller: _Caller) -> Iterator[None]:
        """To be stopped, inside the block."""
        self._callers.add(caller)
        try:
            yield
        finally:
            self._callers.discard(caller)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connected.add(request)  # here, not in its thread: from now on this is not idle
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._used = time.monotonic()
        self._connected.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the caller is gone; what became of its slides is in their folders


class _Caller(socketserver.BaseRequestHandler):
    """One command that brings slides; when it goes away, the slide in hand saves and stops."""

    server: Server

    def handle(self) -> None:
        line = Line(self.request)
        line.hurry(_PATIENCE_S)  # whoever says nothing is nobody
        greeting = line.receive(greeting=True)
        if not greeting or not hmac.compare_digest(str(greeting.get("token")), self.server.token):
            return
        message = line.receive()
        if message is None:
            return
        if message.get("stamp") != self.server.stamp:
            line.send({"refused": "it runs other code"})
            return
        line.hurry(None)
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
        try:
            segmenter = Segmenter(job.args, quiet=True, load=self.server.models.loaded, turns=self.server.turns)
        except LpdError as error:
            line.send({"error": str(error)})
            return
        for slide, folder in job.folders.items():
            if self._stopping:
                return
            self._folder = folder
            line.send({"begins": str(folder)})
            outcome, trace = _outcome_of(segmenter, slide, folder)
            line.send({"outcome": to_message(outcome), "trace": trace})
            if outcome.asked_to_stop or outcome.state == "stopped":
                return

    def _listen(self, line: Line) -> None:
        """A caller says nothing more; what is heard is that it is gone."""
        line.receive()
        while not self._ended.wait(LOOK_S):
            self.stop()


def _outcome_of(segmenter: Segmenter, slide: CohortSlide, folder: Path) -> tuple[Outcome, str]:
    """What became of a slide, and where an error arose that is not one of ours."""
    trace: list[str] = []

    def segment() -> Outcome:
        try:
            return segmenter.segment(slide, folder)
        except Exception:
            trace.append(traceback.format_exc())
            raise

    return attempt(slide, folder, segment), "".join(trace)


class Models:
    """Models by file and device; a file that was written anew is another model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[str, int, int, str], Backend] = OrderedDict()

    def loaded(self, path: Path, device: DeviceName) -> Backend:
        """See :func:`lpd.inference.backend.load_backend`."""
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
