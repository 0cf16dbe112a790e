"""Segmenter: one model and one set of wishes, and one slide after another; what became of each is an Outcome."""

from __future__ import annotations

import argparse
import csv
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lpd.cli.progress import ReportingRun
from lpd.errors import LpdError, ResultError, SlideError
from lpd.inference.settings import DeviceName, SegmentSettings
from lpd.runs import DeviceLine, Run
from lpd.slide.annotations import read_polygons
from lpd.slide.region import Region

if TYPE_CHECKING:  # these bring in torch and OpenSlide, which `lpd --help` does without
    from lpd.inference.backend import Backend
    from lpd.inference.cohort import CohortSlide
    from lpd.inference.frame import MaskFrame
    from lpd.inference.meta import ResultMeta
    from lpd.inference.pipeline import SegmentSummary
    from lpd.inference.store import ResultStore
    from lpd.slide.slide import Slide

    Load = Callable[[Path, DeviceName], Backend]

_LOOK_S = 0.3
#: Files beside the store; a new run deletes those of the one before, so that a folder never mixes two runs.
EXPORTS = ("mask.ome.tif", "annotations.geojson", "areas.csv", "pieces.csv", "manifest.json")


@dataclass(frozen=True)
class Outcome:
    """What became of a slide.

    Attributes:
        slide, folder: which one, and where its result is.
        state: ``done``; ``kept``, done by an earlier run; ``stopped``, by a person; ``failed``.
        said: the line that a person reads; the reason if it failed.
        seconds: of this run.
        asked_to_stop: somebody asked to stop, maybe too late for this slide.
        summary: of the segmentation, as JSON values; empty if there is none.
        areas_mm2: by class code.
    """

    slide: Path
    folder: Path
    state: Literal["done", "kept", "stopped", "failed"]
    said: str
    seconds: float = 0.0
    asked_to_stop: bool = False
    summary: Mapping[str, Any] = field(default_factory=dict)
    areas_mm2: Mapping[str, float] = field(default_factory=dict)


class Segmenter:
    """Segments slides as the command's flags ask for; the model is loaded once."""

    def __init__(
        self,
        args: argparse.Namespace,
        *,
        threads: int | None = None,
        quiet: bool = False,
        load: Load | None = None,
        turns: Mapping[str, threading.Lock] | None = None,
    ) -> None:
        """Check the request, and load the model unless a queue is to be waited in.

        Args:
            args: of the command.
            threads: of the network, on a CPU, if the command does not say; None for all cores.
            quiet: show no progress.
            load: loads the model instead of :func:`lpd.inference.backend.load_backend`, which it is like.
            turns: by device, held while the network runs there; other threads that segment have the same.

        Raises:
            LpdError: the request cannot be met for any slide; nothing has been written.
        """
        from lpd.inference.backend import any_size, load_backend
        from lpd.inference.devices import choose_device
        from lpd.model.header import read_info

        self._args, self._run = args, Run if quiet else ReportingRun
        self._settings = settings_of(args, threads)
        self.info = read_info(args.checkpoint)
        device = choose_device(self._settings.device).type
        self._line = DeviceLine(args.queue, device) if args.queue else None
        self._turn = turns[device] if turns else None
        # Whoever waits in a queue must not hold a network in memory; else a bad one is found before all is begun.
        self._load = load or load_backend
        self._backend = None if args.queue else self._load(args.checkpoint, self._settings.device)
        self._any_size = self._backend.any_size if self._backend else any_size(self.info)
        self._check_backend(self._backend)

    def _check_backend(self, backend: Backend | None) -> None:
        """Refuse a way to compute that this machine lacks, before anything is deleted or written."""
        if backend is not None and self._settings.backend != "auto":
            backend.running(self._settings.backend)

    def segment(self, slide: CohortSlide, folder: Path, *, again: bool = False) -> Outcome:
        """Segment one slide, unless that has been done.

        Args:
            slide, folder: which slide, and where its result goes.
            again: this very command has begun it before; then ``--force`` does not begin it anew.
        """
        started = time.monotonic()
        try:
            return self._segment(slide, folder, started, force=self._args.force and not again)
        except LpdError as error:
            return Outcome(slide.path, folder, "failed", str(error), time.monotonic() - started)

    def _segment(self, wanted: CohortSlide, folder: Path, started: float, *, force: bool) -> Outcome:
        from lpd.inference.job import check_request, describe
        from lpd.slide.opening import open_slide

        with open_slide(wanted.path, mpp=wanted.mpp if self._args.mpp is None else self._args.mpp) as slide:
            frame = check_request(slide, self.info, self._settings, any_size=self._any_size)
            meta = describe(slide, self.info, self._settings)
            asked = _Asked(slide, self._settings, frame)
            if not force and (kept := _done(folder, slide, meta, asked)):
                return kept
            with self._run(folder, "segment", line=self._line) as run:
                if not force and (kept := _done(folder, slide, meta, asked)):  # meanwhile, by another process
                    run.complete()
                    return kept
                summary = self._compute(slide, folder, run, force=force)
                run.free_device()  # the next slide is computed while the files of this one are written
                areas_mm2 = self._export(slide, folder, summary, run)
                if not summary.cancelled:
                    run.complete()
                stopping = run.stop_requested()
        state: Literal["done", "stopped"] = "stopped" if summary.cancelled else "done"
        said = _said(slide, folder, summary)
        return Outcome(
            wanted.path, folder, state, said, time.monotonic() - started, stopping, summary.to_dict(), areas_mm2
        )

    def _compute(self, slide: Slide, folder: Path, run: Run, *, force: bool) -> SegmentSummary:
        from lpd.inference.pipeline import segment_slide

        backend = self._backend or self._load(self.info.path, self._settings.device)
        self._check_backend(backend)
        shown = run.bar(slide.name, "tile") if isinstance(run, ReportingRun) else nullcontext()
        with _turn(self._turn, run), shown:
            if force or not _joins(folder):  # else they describe what is there, until the new part is, too
                _delete_exports(folder)
            try:
                return segment_slide(slide, backend, folder, self._settings, run, resume=not force)
            except SlideError as error:
                raise SlideError(f"{error}; what was finished before is in {folder}") from error

    def _export(self, slide: Slide, folder: Path, summary: SegmentSummary, run: Run) -> dict[str, float]:
        from lpd.export.areas import write_areas_csv
        from lpd.export.geojson import write_geojson
        from lpd.export.ome_tiff import write_ome_tiff
        from lpd.export.pieces import write_pieces_csv
        from lpd.inference.job import pieces_of
        from lpd.inference.manifest import earlier_runs, write_manifest
        from lpd.inference.manifest_file import MANIFEST_NAME, read_manifest
        from lpd.inference.store import ResultStore

        store = ResultStore.open(folder)
        earlier = earlier_runs(read_manifest(folder), len(store.meta.parts))
        _delete_exports(folder, but=MANIFEST_NAME)  # of which the next one keeps a part
        run.say("writing mask.ome.tif")
        write_ome_tiff(store, folder / "mask.ome.tif")
        run.say("writing annotations.geojson")
        write_geojson(store, folder / "annotations.geojson")
        areas = write_areas_csv(store, folder / "areas.csv")
        if any(row.pixels for row in areas):
            write_pieces_csv(store, pieces_of(slide, self._settings), folder / "pieces.csv")
        write_manifest(folder, slide, store, summary, _plain(vars(self._args)), earlier)
        run.say("")
        return {row.code: row.area_mm2 for row in areas}


@contextmanager
def _turn(turn: threading.Lock | None, run: Run) -> Iterator[None]:
    """Wait for one's turn, if others compute in this process, and hold it inside the block."""
    if turn is None:
        yield
        return
    if not turn.acquire(timeout=_LOOK_S):
        run.say("waiting for another slide")
        while not turn.acquire(timeout=_LOOK_S):
            if run.stop_requested():
                raise KeyboardInterrupt
        run.say("")
    try:
        yield
    finally:
        turn.release()


def settings_of(args: argparse.Namespace, threads: int | None) -> SegmentSettings:
    return SegmentSettings(
        region=Region(*args.region) if args.region else None,
        polygons=read_polygons(args.regions) if args.regions else (),
        pieces=tuple(sorted(set(args.pieces or ()))),
        window_px=args.window,
        stride_px=args.stride,
        tissue=args.tissue,
        adapt=args.adapt,
        tta=args.tta,
        refinement=args.refine,
        prototype_maps=args.prototype_maps,
        device=args.device,
        backend=args.backend,
        batch_size=args.batch_size,
        threads=args.threads or threads,
    )


@dataclass(frozen=True)
class _Asked:
    """What is asked for of a slide."""

    slide: Slide
    settings: SegmentSettings
    frame: MaskFrame

    def is_in(self, store: ResultStore) -> bool:
        """Whether a result holds all of it."""
        from lpd.inference.job import asked_of, pieces_of
        from lpd.inference.joining import is_covered

        asked = asked_of(self.slide, self.settings, self.frame)
        return is_covered(store, asked, partial(pieces_of, self.slide, self.settings))


def _done(folder: Path, slide: Slide, meta: ResultMeta, asked: _Asked) -> Outcome | None:
    """The finished result in a folder that holds all that is asked for; None if there is something left to do.

    The manifest is written last: without one that says done, of what the store holds now, an earlier run did not get
    to its end.

    Raises:
        ResultError: the folder holds a finished result, or a finished part, of something else.
    """
    from lpd.inference.joining import has_finished
    from lpd.inference.manifest_file import read_manifest
    from lpd.inference.store import ResultStore

    manifest = read_manifest(folder)
    done = manifest.get("state") == "done"
    try:
        store = ResultStore.open(folder)
        found, finished, changes = store.meta, done or has_finished(store), store.changes()
    except ResultError:  # somebody took the pixels away: do it again
        return None
    if not found.same_work(meta):
        if not finished:
            return None
        what = "made with another model or settings"
        if found.made_by != meta.made_by:
            what = f"made with lpd {found.made_by or 'of old'}"
        if found.slide_fingerprint != meta.slide_fingerprint:
            what = f"of another slide, {Path(manifest.get('slide', {}).get('path', found.slide_name)).name}"
        raise ResultError(f"{folder} already holds a finished result {what}: {_CURE}")
    # Manifests of old do not say which state of the store they are of, but then it had one part.
    described = manifest.get("revision", changes.revision if len(found.parts) == 1 else None)
    current = changes.complete and described == changes.revision
    if not (done and current and asked.is_in(store)):
        return None
    said = f"{slide.path.name}: done before, nothing to do (--force does it again) -> {folder}"
    summary = dict(manifest.get("summary", {}))
    return Outcome(slide.path, folder, "kept", said, summary=summary, areas_mm2=_areas(folder))


def _joins(folder: Path) -> bool:
    """Whether a folder holds anything finished that a run, which was not refused, adds to."""
    from lpd.inference.joining import has_finished
    from lpd.inference.store import ResultStore

    try:
        return has_finished(ResultStore.open(folder))
    except ResultError:
        return False


_CURE = "pass --force to replace it or another --out"


def _areas(folder: Path) -> dict[str, float]:
    """What an earlier run wrote; nothing if somebody took it away."""
    try:
        with (folder / "areas.csv").open(newline="", encoding="utf-8") as file:
            return {row["code"]: float(row["area_mm2"]) for row in csv.DictReader(file) if row["code"] != "TISSUE"}
    except (OSError, ValueError, KeyError):
        return {}


def _said(slide: Slide, folder: Path, summary: SegmentSummary) -> str:
    name = slide.path.name
    if summary.cancelled:
        return f"stopped at {name}; what was finished is in {folder}"
    if summary.planned_windows == 0 and not summary.kept:
        hint = "no tissue found; pass --tissue all if there is some; "
    else:
        hint = f"went on where {summary.kept:.0%} was there; " if summary.kept else ""
    if summary.parts > 1:
        hint += "joined to what earlier runs made; "
    speed = f"{summary.tiles_per_second:.1f} tiles/s by {summary.backend}"
    return (
        f"{name}: {hint}{summary.windows} windows in {summary.seconds:.1f} s ({speed}), "
        f"{summary.tissue_mm2:.2f} mm² tissue -> {folder}"
    )


def _delete_exports(folder: Path, but: str = "") -> None:
    try:
        for name in EXPORTS:
            if name != but:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ResultError(f"cannot replace {folder / name} ({error.strerror}): delete it or choose another") from error


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values: paths become text, the command's function is left out."""
    plain = {k: v for k, v in arguments.items() if not callable(v)}
    return {k: [str(p) for p in v] if k == "slides" else str(v) if isinstance(v, Path) else v for k, v in plain.items()}
