"""segment_slide: slide → tissue windows → network → blended logits → stored mask, in memory that is flat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lpd.config import Settings
from lpd.inference.adapting import Window
from lpd.inference.backend import Backend
from lpd.inference.blend import BlendedPanel, Blender
from lpd.inference.blocks import BlockReader
from lpd.inference.choosing import Batch, choose, choose_by_several, known
from lpd.inference.devices import cpu_threads
from lpd.inference.frame import Box
from lpd.inference.job import Band, SegmentJob, describe, prepare
from lpd.inference.joining import rest_of
from lpd.inference.meta import CELL_PX
from lpd.inference.prototype_layers import MapLayer
from lpd.inference.prototype_writer import PrototypeWriter
from lpd.inference.reader import PanelPixels, read_panels
from lpd.inference.refining import RefiningWriter, refinement_of
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.inference.trials import Trial
from lpd.inference.writer import PanelWriter
from lpd.runs import Run
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.slide import Slide

Bytes = npt.NDArray[np.uint8]
_COUNTED_ROWS = 512
#: Windows that ways to run the network are tried on, and what a slide must hold for that to pay: 48 windows of 672 px.
_TRIED_WINDOWS, _WORTH_TRYING_PX = 4, 48 * 672**2
#: From the second small slide on a batch of each is tried, if the slide holds so much more.
_WORTH_CHECKING_PX = 8 * 672**2


@dataclass(frozen=True)
class SegmentSummary(Settings):
    """How a segmentation went.

    Attributes:
        windows: windows that the network has seen, of ``planned_windows``.
        kept: share of what was asked for that earlier runs had finished; 0–1.
        parts: how many runs for different places the result is joined of.
        adapted_windows: windows that it saw before, for the slide's own prototypes; 0 if it has none.
        tissue_mm2: area of all classes together in the finished part of the mask, whichever run made it.
        seconds: from the first look at the slide to the last panel.
        tiles_per_second: how many of the model's tiles the windows hold, per second of ``predict_seconds``, the part
            after tissue and prototypes were found; a window three tiles wide is nine.
        cancelled: a person stopped it; what had been finished is there.
        device: where the network ran.
        backend: how, see :mod:`lpd.inference.runners`.
        trials: how other ways did beside the reference, if they were tried.
    """

    windows: int
    planned_windows: int
    kept: float
    parts: int
    adapted_windows: int
    tissue_mm2: float
    seconds: float
    predict_seconds: float
    tiles_per_second: float
    cancelled: bool
    device: str
    backend: str
    trials: tuple[Trial, ...]


def segment_slide(
    slide: Slide, backend: Backend, folder: Path, settings: SegmentSettings, run: Run, *, resume: bool = False
) -> SegmentSummary:
    """Segment a slide, or a part of it, into ``folder``'s :class:`~lpd.inference.store.ResultStore`.

    The mask does not depend on the size of batches and panels, nor on the number of threads (but for the last digits
    of floating-point sums inside the network), and that of a region equals that part of the whole slide's (but for the
    same digits, where ``batch_size`` is above the device's own). A stop request is seen before each batch; panels
    finished until then stay.

    Args:
        slide: open, with a resolution.
        backend: the model where it runs, from :func:`~lpd.inference.backend.load_backend`; the mask has its
            resolution, ``info.input.mpp``. One backend serves any number of slides. How it is run is chosen anew for
            each, by ``settings.backend``.
        folder: the result folder; a result in it is replaced, unless ``resume`` says otherwise.
        settings: what and how.
        run: told about progress, in tiles of the model's size; a window three tiles wide is nine.
        resume: where the folder holds what earlier runs, be they finished, stopped or killed, have made of the same
            slide with the same checkpoint and settings, keep it: compute what is missing of the place that is asked
            for, by the same backend. The result is the same as that of one run for all places.

    Raises:
        MissingMppError, ConfigError: see :func:`check_request`.
        ConfigError: this machine does not have the backend that was asked for, or that of the earlier runs.
        CheckpointError: the model answers with something that is no number.
        SlideError: the slide is damaged somewhere on the way.
        ResultError: the result cannot be written.
    """
    started = time.monotonic()
    job, info = prepare(slide, backend, settings), backend.info
    tissue, meta = FineTissue(slide, job.tissue), describe(slide, info, settings)
    meta = replace(meta, region=meta.region or job.rectangle)
    with cpu_threads(settings.threads):
        trials: tuple[Trial, ...] = ()
        begun = rest_of(folder, meta, job) if resume else None
        if begun is not None:
            job, store = begun
            trials = tuple(map(Trial.from_dict, store.meta.trials))  # of the run that chose
        else:
            chosen, trials = _chosen(job, tissue, run)
            job = replace(job, backend=chosen)
            evidence = tuple(trial.to_dict() for trial in trials)
            maps = backend.planned_maps(adapt=settings.adapt) if settings.prototype_maps else None
            store = ResultStore.create(folder, replace(meta, backend=chosen.name, trials=evidence), maps)
        writer = PanelWriter(store, job.wanted.count, tissue, info.calibration)
        adapted = _adapted(job, tissue, run) if job.window_count else None
        ready = time.monotonic()
        try:
            seen = _predict(job, adapted, store, writer, run)
        finally:
            store.flush()
    cancelled = writer.missing_px > 0
    if not cancelled:
        store.finish()
    seconds = time.monotonic() - ready
    return SegmentSummary(
        windows=seen,
        planned_windows=job.window_count,
        kept=job.wanted.kept / (job.wanted.kept + job.wanted.count),
        parts=len(store.meta.parts),
        adapted_windows=job.to_adapt if adapted else 0,
        tissue_mm2=(writer.tissue_px if begun is None else _tissue_in(store)) * (info.input.mpp / 1000) ** 2,
        seconds=seconds + ready - started,
        predict_seconds=seconds,
        tiles_per_second=seen * job.tiles_per_window / max(seconds, 1e-9),
        cancelled=cancelled,
        device=str(backend.device),
        backend=job.backend.name,
        trials=trials,
    )


def _tissue_in(store: ResultStore) -> int:
    """Mask pixels of a class, whichever run has stored them."""
    width, height = store.meta.mask_size
    masks = (store.read_mask_px(0, y, (width, _COUNTED_ROWS)) for y in range(0, height, _COUNTED_ROWS))
    return sum(int(np.count_nonzero(mask < store.meta.classes.background)) for mask in masks)


def _chosen(job: SegmentJob, tissue: FineTissue, run: Run) -> tuple[Backend, tuple[Trial, ...]]:
    """The backend as asked for, or the quickest that agrees with the reference: on this slide, if it is large enough to
    try all of them and no way is known of slides before, else on a batch of this one and of those before it."""
    pixels, backend = job.window_count * job.seen_px**2, job.backend
    small, shape = pixels < _WORTH_TRYING_PX, (job.seen_px, job.batch_size, job.settings.threads, job.settings.tta)
    if job.settings.backend != "auto" or not job.sample or not backend.alternatives:
        return backend, ()
    if small and (pixels < _WORTH_CHECKING_PX or backend.tried.is_first(shape)):  # of which there may be no other
        return backend, ()
    run.say("trying what computes fastest here")
    tried = backend.tried.ways.setdefault(shape, {})
    brief = small or known(tried) is not None
    windows = list(job.windows(_spread(job.sample, job.batch_size if brief else _TRIED_WINDOWS), tissue))
    found: tuple[Backend, tuple[Trial, ...]] = backend, ()
    if windows and brief:
        found = choose_by_several(backend, _tried(windows, job.batch_size), tried)
    elif windows:
        found = choose(backend, _tried(windows, job.batch_size), tried, run.stop_requested)
    run.say("")
    return found


def _spread(sample: list[Box], count: int) -> list[Box]:
    """So many windows of a sample, from its first to its last; of one, that in the middle."""
    last = len(sample) - 1
    places = np.linspace(0, last, count) if count > 1 else np.array([last / 2])
    return [sample[i] for i in np.unique(places.round().astype(int))]


def _tried(windows: list[Window], size: int) -> list[Batch]:
    """Full batches; those who fill up the last one show no tissue, so that they do not count twice."""
    missing = -len(windows) % size
    pixels, tissue = windows[-1]
    filled = windows + [(pixels, np.zeros_like(tissue))] * missing
    return [
        (np.stack([p for p, _ in part]), np.stack([t for _, t in part]))
        for part in (filled[i : i + size] for i in range(0, len(filled), size))
    ]


def _adapted(job: SegmentJob, tissue: FineTissue, run: Run) -> Backend | None:
    """The backend adapted to the slide, if there is something to adapt to; a stop ends the look around early."""
    if not job.to_adapt:
        return None
    run.say("adapting to the slide")
    with closing(job.windows(job.sample, tissue)) as windows:
        adapted = job.backend.adapted(_looked_at(windows, job, run))
    run.say("")
    return adapted


def _looked_at(windows: Iterable[Window], job: SegmentJob, run: Run) -> Iterator[Window]:
    for seen, window in enumerate(windows):
        job.report(seen, run)
        if run.stop_requested():
            return
        yield window


def _predict(job: SegmentJob, adapted: Backend | None, store: ResultStore, writer: PanelWriter, run: Run) -> int:
    """Run all bands' windows through network and blenders; returns how many have been seen."""
    backend = adapted or job.backend
    layers = [
        layer
        for layer in (store.prototypes.maps.layers if store.prototypes else ())
        if layer.kind != "correction" or adapted is not None
    ]
    seen = 0
    job.report(job.to_adapt, run)
    for band in job.bands:
        writer.turn_to(band.wanted)
        maps = PrototypeWriter(band, layers, backend.device, store, writer)
        for count in _predict_band(job, band, backend, writer, maps, run):
            seen += count
            job.report(job.to_adapt + seen, run)
    run.say("")
    return seen


def _predict_band(
    job: SegmentJob, band: Band, backend: Backend, writer: PanelWriter, maps: PrototypeWriter, run: Run
) -> Iterator[int]:
    """Run a band's windows through network and blenders, until somebody asks to stop; how many, batch by batch."""
    plan, reader = band.plan, job.reader(band.plan.wanted.width)
    blender = Blender(plan, backend.info.classes.count, backend.device, _finishing(job, band, writer, reader, run))
    margin_px, layers = job.plan.grid.margin_px, maps.layers
    forget = job.settings.refinement == "none"  # which reads pixels again
    panels = read_panels(plan.panels(), reader, job.settings.reader_threads, margin_px, forget=forget)
    with closing(panels) as pictures:
        for batch in _batches(pictures, job.batch_size):
            if run.stop_requested():
                return
            pixel, presence, shown = _answers(backend, _stacked(batch, job.batch_size), layers)
            for i, (picture, window) in enumerate(batch):
                parts = [_inner(m[i], margin_px, x.stride_px) for x, m in zip(layers, shown, strict=True)]
                maps.add(picture.panel, window, parts)
                cells = (_inner(m[i], margin_px, CELL_PX) for m in (pixel, presence))
                blender.add(picture.panel, window, *cells)
            yield len(batch)
    maps.finish()
    if job.settings.refinement != "none":  # all windows are seen, and yet there is work left
        run.say("refining the last part")
    blender.finish()


def _answers(backend: Backend, windows: Bytes, layers: Sequence[MapLayer]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    return backend.logits_and_maps(windows, layers) if layers else (*backend.logits(windows), ())


def _inner(maps: Tensor, margin_px: int, stride_px: int) -> Tensor:
    """A window's maps (…, h, w) without its margin."""
    cells = slice(margin_px // stride_px, -margin_px // stride_px or None)
    return maps[..., cells, cells]


def _finishing(
    job: SegmentJob, band: Band, writer: PanelWriter, reader: BlockReader, run: Run
) -> Callable[[BlendedPanel], None]:
    """What is done with a blended panel: it is stored, or refined before."""
    refinement = refinement_of(job.settings.refinement)
    if refinement is None:
        return writer.write
    return RefiningWriter(writer, refinement, band.wanted, job.frame.bounds, reader, run.stop_requested).write


def _batches(pictures: Iterable[PanelPixels], size: int) -> Iterator[list[tuple[PanelPixels, Box]]]:
    windows = ((picture, window) for picture in pictures for window in picture.panel.windows)
    while batch := list(islice(windows, size)):
        yield batch


def _stacked(batch: list[tuple[PanelPixels, Box]], size: int) -> Bytes:
    """(size, w, w, 3) uint8. The last batch is filled up by repetition: a network computes a window in the same way,
    to the last digit, only among equally many others."""
    windows = [picture.crop(window) for picture, window in batch]
    if size == 1:
        return windows[0][None]
    return np.stack(windows + windows[-1:] * (size - len(windows)))
