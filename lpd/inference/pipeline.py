"""segment_slide: slide → tissue windows → network → blended logits → stored mask, in memory that is flat."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lpd.config import Settings
from lpd.errors import ConfigError
from lpd.inference.adapting import Window, read_windows, sample_windows
from lpd.inference.backend import Backend
from lpd.inference.blend import BlendedPanel, Blender
from lpd.inference.blocks import BlockReader, blocks_to_keep
from lpd.inference.choosing import Batch, Trial, choose
from lpd.inference.devices import cpu_threads
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.meta import CELL_PX, ResultMeta
from lpd.inference.reader import PanelPixels, read_panels
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.inference.windows import Plan, plan_windows
from lpd.inference.writer import PanelWriter
from lpd.model.header import CheckpointInfo, file_digest
from lpd.runs import Run
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.slide import Slide
from lpd.slide.tissue import TissueMask, tissue_mask

Bytes = npt.NDArray[np.uint8]
#: Pixels per forward pass, which is what memory goes with: 4 and 64 tiles of 224 px.
_CPU_PIXELS, _GPU_PIXELS = 4 * 224**2, 64 * 224**2
#: Windows that ways to run the network are tried on, and what a slide must hold for that to pay: 48 windows of 672 px.
_TRIED_WINDOWS, _WORTH_TRYING_PX = 4, 48 * 672**2
_CPU_PANEL_PX, _GPU_PANEL_PX = 512, 2048
#: A slide this many times as coarse as the model's tiles still shows it something; beyond, it is a slip in the mpp.
_COARSEST = 4


@dataclass(frozen=True)
class SegmentSummary(Settings):
    """How a segmentation went.

    Attributes:
        windows: windows that the network has seen, of ``planned_windows``.
        adapted_windows: windows that it saw before, for the slide's own prototypes; 0 if it has none.
        tissue_mm2: area of all classes together in the finished part of the mask.
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
    adapted_windows: int
    tissue_mm2: float
    seconds: float
    predict_seconds: float
    tiles_per_second: float
    cancelled: bool
    device: str
    backend: str
    trials: tuple[Trial, ...]


def check_request(slide: Slide, info: CheckpointInfo, settings: SegmentSettings, *, any_size: bool) -> MaskFrame:
    """Check, before anything is written or computed, that this slide can be segmented in this way.

    Args:
        slide: open, with a resolution.
        info: of the checkpoint.
        settings: what and how.
        any_size: of the checkpoint's backend, or :func:`lpd.inference.backend.any_size`.

    Returns:
        The mask's frame on the slide.

    Raises:
        MissingMppError: nobody knows the slide's resolution.
        ConfigError: the slide is more than four times as coarse as what the model knows, the region lies outside of the
            slide, or window, stride or grid offset do not fit the network.
    """
    mpp = slide.require_mpp()
    if mpp > _COARSEST * info.input.mpp:
        raise ConfigError(
            f"{slide.path.name} has {mpp:g} µm per pixel, but {info.name} sees tissue at {info.input.mpp:g}, more than "
            f"{_COARSEST} times as fine: correct the slide's resolution with --mpp, or use a finer scan"
        )
    frame = MaskFrame(slide.width_l0, slide.height_l0, info.input.mpp / mpp)
    settings.wanted(frame, slide.path.name)
    settings.grid(frame.bounds, info.input, _CPU_PANEL_PX, any_size=any_size)
    return frame


def segment_slide(slide: Slide, backend: Backend, folder: Path, settings: SegmentSettings, run: Run) -> SegmentSummary:
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
        folder: the result folder; a result in it is replaced.
        settings: what and how.
        run: told about progress, in tiles of the model's size; a window three tiles wide is nine.

    Raises:
        MissingMppError, ConfigError: see :func:`check_request`.
        ConfigError: this machine does not have the backend that was asked for.
        CheckpointError: the model answers with something that is no number.
        SlideError: the slide is damaged somewhere on the way.
        ResultError: the result cannot be written.
    """
    started = time.monotonic()
    job, info = _prepare(slide, backend, settings), backend.info
    store = ResultStore.create(folder, _describe(slide, info, settings))
    tissue = FineTissue(slide, job.tissue)
    writer = PanelWriter(store, job.plan.wanted, tissue, info.calibration)
    with cpu_threads(settings.threads):
        chosen, trials = _chosen(job, tissue, run)
        adapted = _adapted(job, chosen, tissue, run)
        ready = time.monotonic()
        seen = _predict(job, adapted or chosen, writer.write, run)
    cancelled = seen < job.plan.window_count
    if not cancelled:
        store.finish()
    seconds = time.monotonic() - ready
    return SegmentSummary(
        windows=seen,
        planned_windows=job.plan.window_count,
        adapted_windows=job.to_adapt if adapted else 0,
        tissue_mm2=writer.tissue_px * (info.input.mpp / 1000) ** 2,
        seconds=seconds + ready - started,
        predict_seconds=seconds,
        tiles_per_second=seen * job.tiles_per_window / max(seconds, 1e-9),
        cancelled=cancelled,
        device=str(backend.device),
        backend=chosen.name,
        trials=trials,
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """Everything that is fixed before the first window; ``sample`` are windows from all over the slide."""

    slide: Slide
    backend: Backend
    settings: SegmentSettings
    frame: MaskFrame
    tissue: TissueMask
    plan: Plan
    sample: list[Box]

    @property
    def to_adapt(self) -> int:
        """Windows that are seen before the others, for the slide's own prototypes."""
        return len(self.sample) if self.settings.adapt else 0

    @property
    def seen_px(self) -> int:
        """Side of a window with its margins."""
        return self.plan.grid.window_px + 2 * self.plan.grid.margin_px

    @property
    def tiles_per_window(self) -> float:
        """How many of the model's tiles a window holds with its margins."""
        return (self.seen_px / self.backend.info.input.tile_px) ** 2

    @property
    def batch_size(self) -> int:
        """As set, but where a batch is larger than the device's own, no more than there are windows."""
        pixels = _CPU_PIXELS if self.backend.device.type == "cpu" else _GPU_PIXELS
        usual = max(1, pixels // self.seen_px**2)
        return min(self.settings.batch_size or usual, max(usual, self.plan.window_count))

    def report(self, windows: int, run: Run) -> None:
        """Tell how many windows have been seen, those to adapt with included, in tiles."""
        total = self.to_adapt + self.plan.window_count
        run.advance(round(windows * self.tiles_per_window), round(total * self.tiles_per_window))

    def windows(self, boxes: list[Box], tissue: FineTissue) -> Generator[Window, None, None]:
        """Pixels and tissue of some windows; close it, or exhaust it."""
        where = BlockReader(tissue.read, self.frame, np.array(False), len(boxes))
        margin_px, threads = self.plan.grid.margin_px, self.settings.reader_threads
        return read_windows(boxes, margin_px, self.reader(), where, threads)

    def reader(self) -> BlockReader:
        # Beyond the slide comes the colour that is zero to the network, as beyond the border of a tile in training.
        nothing = np.rint(255 * np.array(self.backend.info.input.mean)).astype(np.uint8)
        return BlockReader(self.slide.read, self.frame, nothing, blocks_to_keep(self.plan.wanted.width))


def _prepare(slide: Slide, backend: Backend, settings: SegmentSettings) -> _Job:
    frame = check_request(slide, backend.info, settings, any_size=backend.any_size)
    tissue = tissue_mask(slide, everything=settings.tissue == "all")
    panel_px = settings.panel_px or (_CPU_PANEL_PX if backend.device.type == "cpu" else _GPU_PANEL_PX)
    grid = settings.grid(frame.bounds, backend.info.input, panel_px, any_size=backend.any_size)

    def has_tissue(box: Box) -> bool:
        region = frame.to_l0(box)
        return region is not None and tissue.covers(region)

    plan = plan_windows(grid, settings.wanted(frame, slide.path.name), has_tissue)
    sample = sample_windows(grid, has_tissue) if plan.window_count else []
    if settings.backend != "auto":
        backend = backend.running(settings.backend)
    return _Job(slide, backend, settings, frame, tissue, plan, sample)


def _chosen(job: _Job, tissue: FineTissue, run: Run) -> tuple[Backend, tuple[Trial, ...]]:
    """The backend as asked for, or the quickest that agrees with the reference, if the slide is large enough to try."""
    worth = job.settings.backend == "auto" and job.plan.window_count * job.seen_px**2 >= _WORTH_TRYING_PX
    if not worth or not job.sample or not job.backend.alternatives:
        return job.backend, ()
    run.say("trying what computes fastest here")
    spread = np.linspace(0, len(job.sample) - 1, _TRIED_WINDOWS).round().astype(int)
    windows = list(job.windows([job.sample[i] for i in np.unique(spread)], tissue))
    found = choose(job.backend, _tried(windows, job.batch_size)) if windows else (job.backend, ())
    run.say("")
    return found


def _tried(windows: list[Window], size: int) -> list[Batch]:
    """Full batches; those who fill up the last one show no tissue, so that they do not count twice."""
    missing = -len(windows) % size
    pixels, tissue = windows[-1]
    filled = windows + [(pixels, np.zeros_like(tissue))] * missing
    return [
        (np.stack([p for p, _ in part]), np.stack([t for _, t in part]))
        for part in (filled[i : i + size] for i in range(0, len(filled), size))
    ]


def _adapted(job: _Job, backend: Backend, tissue: FineTissue, run: Run) -> Backend | None:
    """The backend adapted to the slide, if there is something to adapt to; a stop ends the look around early."""
    if not job.to_adapt:
        return None
    run.say("adapting to the slide")
    with closing(job.windows(job.sample, tissue)) as windows:
        adapted = backend.adapted(_looked_at(windows, job, run))
    run.say("")
    return adapted


def _looked_at(windows: Iterable[Window], job: _Job, run: Run) -> Iterator[Window]:
    for seen, window in enumerate(windows):
        job.report(seen, run)
        if run.stop_requested():
            return
        yield window


def _describe(slide: Slide, info: CheckpointInfo, settings: SegmentSettings) -> ResultMeta:
    return ResultMeta(
        slide_name=slide.name,
        slide_fingerprint=slide.fingerprint,
        width_l0=slide.width_l0,
        height_l0=slide.height_l0,
        slide_mpp=slide.require_mpp(),
        mask_mpp=info.input.mpp,
        classes=info.classes,
        checkpoint_name=info.name,
        checkpoint_digest=file_digest(info.path),
        notice=info.notice,
        region=settings.region,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        settings=settings.to_dict(),
    )


def _predict(job: _Job, backend: Backend, finished: Callable[[BlendedPanel], None], run: Run) -> int:
    """Run all windows through network and blender; returns how many have been seen."""
    blender = Blender(job.plan, backend.info.classes.count, backend.device, finished)
    seen = 0
    job.report(job.to_adapt, run)
    margin_px = job.plan.grid.margin_px
    cells = slice(margin_px // CELL_PX, -margin_px // CELL_PX or None)
    with closing(read_panels(job.plan.panels(), job.reader(), job.settings.reader_threads, margin_px)) as pictures:
        for batch in _batches(pictures, job.batch_size):
            if run.stop_requested():
                return seen
            pixel, presence = backend.logits(_stacked(batch, job.batch_size))
            for i, (picture, window) in enumerate(batch):
                blender.add(picture.panel, window, pixel[i, :, cells, cells], presence[i, :, cells, cells])
            seen += len(batch)
            job.report(job.to_adapt + seen, run)
    blender.finish()
    return seen


def _batches(pictures: Iterable[PanelPixels], size: int) -> Iterator[list[tuple[PanelPixels, Box]]]:
    windows = ((picture, window) for picture in pictures for window in picture.panel.windows)
    while batch := list(islice(windows, size)):
        yield batch


def _stacked(batch: list[tuple[PanelPixels, Box]], size: int) -> Bytes:
    """(size, w, w, 3) uint8. The last batch is filled up by repetition: a network computes a window in the same way,
    to the last digit, only among equally many others."""
    windows = [picture.crop(window) for picture, window in batch]
    return np.stack(windows + windows[-1:] * (size - len(windows)))
