"""Exports of label sets: the command a person would type, in a process of its own; its folder tells how far it is."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lpd.errors import LpdError
from lpd.labelling.labelling import Labelling
from lpd.labelling.splitting import Plan, make_plan
from lpd.review.review import Review
from lpd.runs import RunState, read_state, request_stop, write_json_atomically
from viewers.children import EXIT_NAME, Children
from viewers.errors import NotFoundError, NotReadyError
from viewers.file_names import require_name
from viewers.job_log import log_lines
from viewers.jobs import Job
from viewers.services import Services
from viewers.slide_info import SlideInfo

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
_FOLDER, _RECORD = "exports", "export.json"
#: An export without a state counts as dead after this long.
_START_PATIENCE_S = 120.0


@dataclass(frozen=True)
class ExportWish:
    """What somebody asked for: the tile set's name, slides to hold out by fingerprint (None: by the rule)."""

    name: str
    hold_out: Sequence[str] | None = None
    licence: str = "not stated"
    replace: bool = False
    author: str = ""


class LabelExports:
    """Starts exports and tells of them; holds nothing that a restart would lose."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._children = Children()

    def plan(self, labelling: Labelling, hold_out: Sequence[str] | None) -> Plan:
        """What the label set would become.

        Raises:
            LpdError: a slide that shall be held out cannot be, or a review cannot be read.
        """
        with self._reviews(labelling) as found:
            by_slide: dict[str, list[Review]] = {}
            for _, review in found:
                by_slide.setdefault(review.store.meta.slide_fingerprint, []).append(review)
            return make_plan(labelling, by_slide, hold_out)

    def start(self, labelling: Labelling, wish: ExportWish) -> str:
        """Start an export and return its id at once.

        Raises:
            LpdError: the name will not do, there is nothing to learn from, a slide is gone, or it cannot be started.
        """
        name = require_name(wish.name, "a tile set's name")
        out = self._services.data / name
        if out.exists() and not wish.replace:
            raise LpdError(f"a tile set {name!r} is there already: choose another name, or let it be replaced")
        plan = self.plan(labelling, wish.hold_out)
        if plan.problem:
            raise LpdError(plan.problem)
        export_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder = labelling.folder / _FOLDER / export_id
        argv = (*self._services.jobs.command, *self._arguments(labelling, wish, out, folder))
        write_json_atomically(folder / _RECORD, {"name": name, "created": time.time(), "argv": argv})
        self._children.start(export_id, argv, folder)
        return export_id

    def stop(self, labelling: Labelling, export_id: str) -> None:
        """Ask an export to stop; it leaves nothing behind."""
        request_stop(self._folder(labelling, export_id))

    def describe(self, labelling: Labelling, export_id: str) -> dict[str, Any]:
        """How far an export is, as plain JSON; paths stay on the server."""
        folder = self._folder(labelling, export_id)
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        state = self._state(folder, export_id, float(record["created"]))
        message = state.message.replace(str(self._services.data), self._services.data.name)
        lines = log_lines(folder) if state.state == "done" else []
        return {
            "id": export_id,
            "name": record["name"],
            "state": state.state,
            "ended": state.ended,
            "message": message.replace(str(self._services.catalogue.folder), ""),
            "progress": asdict(state.progress),
            "said": [line.replace(str(self._services.data), self._services.data.name) for line in lines],
        }

    def going(self, labelling: Labelling) -> dict[str, Any] | None:
        """The newest export, if it is still at work: a page that was reloaded finds it again."""
        folders = (labelling.folder / _FOLDER).glob(f"*/{_RECORD}")
        newest = max((path.parent.name for path in folders), default=None)
        found = self.describe(labelling, newest) if newest else None
        return found if found and not found["ended"] else None

    def _state(self, folder: Path, export_id: str, created: float) -> RunState:
        state = read_state(folder)
        orphaned = export_id not in self._children and time.time() - created > _START_PATIENCE_S
        gone = (folder / EXIT_NAME).exists() or orphaned
        if state.state == "new" and gone:
            said = next((line for line in reversed(log_lines(folder)) if line.startswith("lpd ")), "")
            reason = said.partition(": ")[2] or "it ended before it had begun: try again"
            return replace(state, state="failed", message=reason)
        return replace(state, state="queued") if state.state == "new" else state

    def _folder(self, labelling: Labelling, export_id: str) -> Path:
        folder = labelling.folder / _FOLDER / export_id
        if not _ID.fullmatch(export_id) or not (folder / _RECORD).is_file():
            raise NotFoundError(f"there is no export {export_id[:40]!r} of this label set")
        return folder

    def _arguments(self, labelling: Labelling, wish: ExportWish, out: Path, folder: Path) -> list[str]:
        """Of ``lpd``, as a person would type them."""
        with self._reviews(labelling) as found:
            results = [str(job.run_folder) for job, _ in found]
        arguments = ["labels", "export", str(labelling.folder), *map(str, self._paths(labelling).values())]
        arguments += ["--out", str(out), "--run", str(folder), f"--author={wish.author}", f"--licence={wish.licence}"]
        arguments += ["--reviewed", *results] if results else []
        arguments += ["--hold-out", *wish.hold_out] if wish.hold_out is not None else []
        return arguments + (["--force"] if wish.replace else [])

    def _paths(self, labelling: Labelling) -> Mapping[str, Path]:
        """The files of the set's slides.

        Raises:
            LpdError: one is not in the slides folder any more.
        """
        found: dict[str, Path] = {}
        for file, info in self._services.catalogue.infos(patience_s=5.0):
            if isinstance(info, SlideInfo) and info.fingerprint in labelling.slides:
                found.setdefault(info.fingerprint, file.path)
        for fingerprint, slide in labelling.slides.items():
            if fingerprint not in found and labelling.tiles(fingerprint):
                raise LpdError(f"{slide.name} is not in the slides folder any more: put it back, or clear its tiles")
        return found

    @contextmanager
    def _reviews(self, labelling: Labelling) -> Iterator[list[tuple[Job, Review]]]:
        """The reviews of results of the set's slides, whose classes are among the set's; the newest first."""
        codes, found = set(labelling.scheme.classes.codes), []
        with ExitStack() as stack:
            for job in self._services.index.all():
                if not job.run.ended or not (job.run_folder / "review").is_dir():
                    continue
                try:
                    review = stack.enter_context(self._services.reviews.of(job))
                except (NotReadyError, NotFoundError):
                    continue
                wanted = review.store.meta.slide_fingerprint in labelling.slides
                if wanted and review.refresh() and codes & set(review.classes.codes):
                    found.append((job, review))
            yield found
