"""Audit: who logged in, opened, started, cancelled, took along; one JSON line each, never in a request's way."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lpd.errors import LpdError
from viewers.gate import Visitor, visitor
from viewers.private_files import OWNER_ONLY

_LOGGER = logging.getLogger(__name__)
_LARGEST_BYTES = 10 * 2**20
_LONGEST_QUEUE = 10_000
_OPENED_KEPT = 10_000
_HOUR_S = 3600

#: Method and path (after the root path) of what is noted. The group is named after what its id belongs to.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("GET", re.compile(r"/api/slides/(?P<slide>[^/]+)"), "opened slide"),
    ("GET", re.compile(r"/slides/(?P<slide>[^/]+)(\.dzi|_files/.*|/picture/.*|/crop/.*)"), "opened slide"),
    ("PUT", re.compile(r"/api/slides/(?P<slide>[^/]+)/mpp"), "set resolution"),
    ("PUT", re.compile(r"/api/slides/(?P<slide>[^/]+)/annotations"), "saved annotations"),
    ("GET", re.compile(r"/api/slides/(?P<slide>[^/]+)/annotations.geojson"), "downloaded annotations"),
    ("POST", re.compile(r"/api/labels/(?P<labels>[^/]+)/exports"), "exported label set"),
    ("POST", re.compile(r"/api/uploads"), "uploaded"),
    ("POST", re.compile(r"/api/sample"), "fetched sample"),
    ("PUT", re.compile(r"/api/checkpoints/(?P<model>[^/]+)/prototypes"), "named prototypes"),
    ("POST", re.compile(r"/api/checkpoints/(?P<model>[^/]+)/edited"), "saved model"),
    ("POST", re.compile(r"/api/images/figure"), "inspected picture"),
    ("POST", re.compile(r"/api/jobs"), "started"),
    ("POST", re.compile(r"/api/datasets/phantom"), "made synthetic data set"),
    ("GET", re.compile(r"/datasets/(?P<data>[^/]+)/tiles/.*"), "opened data set"),
    (
        "GET",
        re.compile(r"/api/datasets/(?P<data>[^/]+)/(prototypes|(prototypes/plot|figure)\..*)"),
        "inspected data set",
    ),
    ("POST", re.compile(r"/api/trainings"), "started training"),
    ("POST", re.compile(r"/api/trainings/(?P<training>[^/]+)/stop"), "stopped training"),
    ("POST", re.compile(r"/api/trainings/(?P<training>[^/]+)/kill"), "killed training"),
    ("POST", re.compile(r"/api/trainings/(?P<training>[^/]+)/go-on"), "went on with training"),
    ("DELETE", re.compile(r"/api/trainings/(?P<training>[^/]+)"), "deleted training"),
    ("POST", re.compile(r"/api/trainings/(?P<training>[^/]+)/evaluations"), "evaluated training"),
    ("POST", re.compile(r"/api/trainings/(?P<training>[^/]+)/publication"), "published model"),
    ("GET", re.compile(r"/api/trainings/(?P<training>[^/]+)/config.yaml"), "downloaded"),
    ("POST", re.compile(r"/api/jobs/(?P<job>[^/]+)/cancel"), "cancelled"),
    ("GET", re.compile(r"/results/(?P<job>[^/]+)/download/.*"), "downloaded"),
    ("POST", re.compile(r"/results/(?P<job>[^/]+)/review/(region|stroke|undo|redo)"), "corrected"),
    ("GET", re.compile(r"/results/(?P<job>[^/]+)/review/export/.*"), "downloaded"),
    ("GET", re.compile(r"/results/(?P<job>[^/]+)/report.html"), "downloaded"),
    ("GET", re.compile(r"/results/(?P<job>[^/]+)/prototypes/(place|plot)\..*"), "inspected"),
    ("GET", re.compile(r"/api/matching/plot\.[a-z]+\?(?:.*&)?left=(?P<job>[^&]+).*"), "inspected"),
    ("GET", re.compile(r"/api/checkpoints/projection\..*"), "inspected models"),
)
#: What makes something new, and says nothing where it did not: the answer tells by its Location.
_MAKING = ("uploaded", "fetched sample", "started")


class AuditLog:
    """Appends to ``path`` in a thread of its own. A disk that is full or slow costs entries and one warning.

    When the file has grown to ``largest_bytes`` it is renamed after the time and a new one begun; none is deleted.

    Args:
        path: file, made for its owner alone.
        largest_bytes: size at which a new file begins.
    """

    def __init__(self, path: Path, largest_bytes: int = _LARGEST_BYTES) -> None:
        self.path = path
        self._largest = largest_bytes
        self._writer = ThreadPoolExecutor(1, "audit")  # joined at the end of the program: what was noted gets written
        self._waiting = threading.Semaphore(_LONGEST_QUEUE)
        self._warned = False
        self._opened: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._guard = threading.Lock()

    def note(self, who: Visitor, action: str, slide: str = "", job: str = "", detail: str = "") -> None:
        """Note that somebody did something; returns at once and raises nothing."""
        entry = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "user": who.name or "local",
            "address": who.address,
            "action": action,
            "slide": slide,
            "job": job,
            "detail": detail,
        }
        line = json.dumps({key: value for key, value in entry.items() if value}) + "\n"
        if not self._waiting.acquire(blocking=False):
            self._warn("it is written too slowly")
            return
        with suppress(RuntimeError):  # the program is ending
            self._writer.submit(self._write, line.encode("ascii"))

    def is_news(self, who: Visitor, slide_id: str) -> bool:
        """Whether the person opens the slide for the first time in an hour."""
        key, now = (who.name, slide_id), time.monotonic()
        with self._guard:
            if now - self._opened.get(key, -float(_HOUR_S)) < _HOUR_S:
                return False
            self._opened[key] = now
            self._opened.move_to_end(key)
            if len(self._opened) > _OPENED_KEPT:
                self._opened.popitem(last=False)
            return True

    def flush(self) -> None:
        """Return when everything noted so far has been written or given up."""
        self._writer.submit(lambda: None).result()

    def _write(self, line: bytes) -> None:
        self._waiting.release()
        try:
            self._rotate()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            number = os.open(self.path, flags, OWNER_ONLY)
            try:
                if hasattr(os, "fchmod"):
                    os.fchmod(number, OWNER_ONLY)
                if os.write(number, line) != len(line):
                    os.write(number, b"\n")  # a full disk took a part: the next entry begins on a line of its own
                    raise OSError("No space left on device")
            finally:
                os.close(number)
        except OSError as error:
            self._warn(str(error.strerror or error))
        else:
            self._warned = False

    def _rotate(self) -> None:
        with suppress(FileNotFoundError):
            if self.path.stat().st_size >= self._largest:
                stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 10**9:09d}"
                self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            _LOGGER.warning("%s cannot be written (%s): entries are lost until it can", self.path, reason)


class AuditTrail:
    """ASGI middleware that notes what a request has done, once it was answered well.

    Args:
        app: what is behind.
        log: where to note it.
        names: by what an id belongs to (``slide``, ``job``, ``labels``, ``data``), what a slide is called by it:
            itself, that of the job; or the label set or data set itself.
    """

    def __init__(self, app: ASGIApp, log: AuditLog, names: Mapping[str, Callable[[str], str]]) -> None:
        self._app = app
        self._log = log
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule = _rule(scope) if scope["type"] == "http" else None
        if rule is None:
            await self._app(scope, receive, send)
            return
        ids, action = rule

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                # The answer to a start says where the new job is, that to an upload where the new slide is; that to a
                # start which only shows a job again says nothing.
                place = dict(message["headers"]).get(b"location", b"").decode("latin-1")
                kind = "slide" if "/api/slides/" in place else "training" if "/api/trainings/" in place else "job"
                if place and not ids:
                    await self._note(scope, action, {kind: place.rpartition("/")[2]})
                elif action not in _MAKING:
                    await self._note(scope, action, ids)
            await send(message)

        await self._app(scope, receive, noting)

    async def _note(self, scope: Scope, action: str, ids: dict[str, str]) -> None:
        who = visitor(HTTPConnection(scope))
        kind, number = next(iter(ids.items()), ("", ""))
        if action in ("opened slide", "opened data set") and not self._log.is_news(who, number):
            return
        if kind not in self._names:  # models and trainings are known by the very word in the address
            self._log.note(who, action, detail=number)
            return
        try:
            name = await run_in_threadpool(self._names[kind], number)
        except LpdError:  # deleted in this instant
            name = ""
        detail = str(scope["path"]).rpartition("/")[2] if action == "downloaded" else ""
        if kind in ("labels", "data"):
            name, detail = "", name
        self._log.note(who, action, slide=name, job=number if kind == "job" else "", detail=detail)


def _rule(scope: Scope) -> tuple[dict[str, str], str] | None:
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    asked = f"{path}?{scope.get('query_string', b'').decode('latin-1')}"
    for method, pattern, action in _RULES:
        whole = asked if r"\?" in pattern.pattern else path
        found = pattern.fullmatch(whole) if scope["method"] == method else None
        if found:
            return found.groupdict(), action
    return None
