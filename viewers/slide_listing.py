"""SlideListing: the list of slides as plain JSON, and what has changed in it since somebody heard of it last."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from lpd.errors import LpdError
from viewers import checkpoints
from viewers.catalog import SlideFile, SlideInfo
from viewers.services import Services
from viewers.tiles import deep_zoom

#: How long an answer to "which slides are there" may wait for slides that nobody has opened yet.
_PATIENCE_S = 0.5
#: Whoever asks for changes again and again does not make the disk be read each time.
_FRESH_S = 2.0
_Facts = tuple[SlideFile, SlideInfo | LpdError | None, str | None, list[dict[str, Any]]]


class SlideListing:
    """Keeps the entries it told last, each with the number of the look at which it became so; thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guard = threading.Lock()
        self._origin = secrets.token_hex(4)  # numbers of an earlier start mean nothing
        self._look = 0
        self._facts: dict[str, _Facts] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, int] = {}

    def whole(self) -> dict[str, Any]:
        """All slides, sorted by path, and ``revision`` to ask :meth:`since` with."""
        with self._guard:
            self._refresh(0.0)
            return {**self._head(), "slides": list(self._entries.values())}

    def since(self, revision: str) -> dict[str, Any]:
        """``changed`` entries and ids that are ``gone`` since a revision; the whole list if it is not one of ours."""
        origin, _, number = revision.partition("-")
        if origin != self._origin or not number.isdecimal():
            return self.whole()
        with self._guard:
            self._refresh(_FRESH_S)
            news = [slide_id for slide_id, look in self._changed.items() if look > int(number)]
            changed = [self._entries[slide_id] for slide_id in news if slide_id in self._entries]
            return {**self._head(), "changed": changed, "gone": [one for one in news if one not in self._entries]}

    def _head(self) -> dict[str, Any]:
        return {"folder": str(self._services.catalogue.folder), "revision": f"{self._origin}-{self._look}"}

    def _refresh(self, max_age_s: float) -> None:
        models, done = self._services.checkpoints.all(), self._services.index.by_slide()
        suggested = {drawn: checkpoints.suggest(models, synthetic=drawn) for drawn in (False, True)}
        before, entries, facts = self._entries, dict[str, dict[str, Any]](), dict[str, _Facts]()
        for file, found in self._services.catalogue.infos(_PATIENCE_S, max_age_s):
            now = (file, found, suggested[isinstance(found, SlideInfo) and found.synthetic], done.get(file.id, []))
            same = self._facts.get(file.id) == now
            facts[file.id], entries[file.id] = now, before[file.id] if same else _entry(*now)
        changed = [one for one, entry in entries.items() if before.get(one) is not entry]
        gone = [one for one in before if one not in entries]
        if changed or gone:
            self._look += 1
            self._changed.update(dict.fromkeys((*changed, *gone), self._look))
        self._facts, self._entries = facts, entries


def details(info: SlideInfo) -> dict[str, Any]:
    """What a slide says of itself as plain JSON."""
    slide_id, version, zoom = info.file.id, info.fingerprint, deep_zoom(info)
    return _about_file(info.file) | {
        "status": "ok",
        "width": info.width_l0,
        "height": info.height_l0,
        "mpp": info.mpp,
        "mpp_origin": info.mpp_origin,
        "vendor": info.vendor,
        "objective": info.objective,
        "synthetic": info.synthetic,
        "fingerprint": version,
        "tile_px": zoom.tile_px,
        "levels": zoom.level_count,
        "dzi": f"/slides/{slide_id}.dzi",
        "tiles": f"/slides/{slide_id}_files",
        "thumbnail": f"/slides/{slide_id}/thumbnail?f={version}",
    }


def _entry(
    file: SlideFile, found: SlideInfo | LpdError | None, suggested: str | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    entry = details(found) if isinstance(found, SlideInfo) else _about_file(file) | {"status": "unread"}
    if isinstance(found, LpdError):
        entry |= {"status": "error", "error": str(found)}
    return entry | {"suggested_checkpoint": suggested, "results": results}


def _about_file(file: SlideFile) -> dict[str, Any]:
    """``modified`` is in Unix seconds; ``size_bytes`` and it are 0 of a file that is not opened for what it is."""
    return {
        "id": file.id,
        "name": file.name,
        "relative": file.relative,
        "folder": file.folder,
        "size_bytes": file.size,
        "modified": file.mtime_ns / 1e9,
    }
