"""SegmentJob: one slide, one model and how they are brought together, settled and checked before the first window."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from lpd.errors import ConfigError, ResultError
from lpd.inference.adapting import Window, read_windows, sample_windows
from lpd.inference.backend import Backend
from lpd.inference.bands import bands
from lpd.inference.blocks import BlockReader, blocks_to_keep
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.meta import ResultMeta
from lpd.inference.prototype_maps import check_prototypes
from lpd.inference.refining import refinement_of
from lpd.inference.settings import BackendName, SegmentSettings
from lpd.inference.store import ResultStore
from lpd.inference.symmetries import SymmetricBackend
from lpd.inference.windows import Plan, WindowGrid, plan_windows
from lpd.model.header import CheckpointInfo, file_digest
from lpd.runs import Run
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.slide import Slide
from lpd.slide.tissue import TissueMask, tissue_mask

#: Pixels per forward pass, which is what memory goes with: 4 and 64 tiles of 224 px.
_CPU_PIXELS, _GPU_PIXELS = 4 * 224**2, 64 * 224**2
_CPU_PANEL_PX, _GPU_PANEL_PX = 512, 2048
#: A slide this many times as coarse as the model's tiles still shows it something; beyond, it is a slip in the mpp.
_COARSEST = 4


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
            slide, window, stride or grid offset do not fit the network, or it has too many prototypes to keep maps of.
    """
    mpp = slide.require_mpp()
    if mpp > _COARSEST * info.input.mpp:
        raise ConfigError(
            f"{slide.path.name} has {mpp:g} µm per pixel, but {info.name} sees tissue at {info.input.mpp:g}, more than "
            f"{_COARSEST} times as fine: correct the slide's resolution with --mpp, or use a finer scan"
        )
    frame = MaskFrame(slide.width_l0, slide.height_l0, info.input.mpp / mpp)
    settings.wanted(frame, slide.path.name)
    if settings.prototype_maps:
        check_prototypes(info)
    settings.grid(frame.bounds, info.input, _CPU_PANEL_PX, any_size=any_size)
    return frame


def describe(slide: Slide, info: CheckpointInfo, settings: SegmentSettings) -> ResultMeta:
    """What the result will say of itself; how the network is run is not known yet."""
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
        origin_l0=slide.origin_l0,
    )


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """Everything that is fixed before the first window.

    Attributes:
        plan: all that was asked for.
        bands: the same cut into what is computed one after another, less what an earlier run has finished.
        finished: which mask pixels those are.
        sample: windows from all over the slide.
        planned: how many windows all bands have, also where an earlier run has seen some.
    """

    slide: Slide
    backend: Backend
    settings: SegmentSettings
    frame: MaskFrame
    tissue: TissueMask
    plan: Plan
    bands: tuple[Plan, ...]
    finished: tuple[Box, ...]
    sample: list[Box]
    planned: int

    @property
    def window_count(self) -> int:
        """Windows to compute; those across a cut between bands count twice."""
        return sum(band.window_count for band in self.bands)

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
        return min(self.settings.batch_size or usual, max(usual, self.planned))

    def report(self, windows: int, run: Run) -> None:
        """Tell how many windows have been seen, those to adapt with included, in tiles."""
        total = self.to_adapt + self.window_count
        run.advance(round(windows * self.tiles_per_window), round(total * self.tiles_per_window))

    def windows(self, boxes: list[Box], tissue: FineTissue) -> Generator[Window, None, None]:
        """Pixels and tissue of some windows; close it, or exhaust it."""
        where = BlockReader(tissue.read, self.frame, np.array(False), len(boxes))
        margin_px, threads = self.plan.grid.margin_px, self.settings.reader_threads
        widest = max((band.wanted.width for band in self.bands), default=0)
        return read_windows(boxes, margin_px, self.reader(widest), where, threads)

    def reader(self, width_px: int) -> BlockReader:
        """Reads the slide's pixels; keeps what reading row by row at this width needs."""
        # Beyond the slide comes the colour that is zero to the network, as beyond the border of a tile in training.
        nothing = np.rint(255 * np.array(self.backend.info.input.mean)).astype(np.uint8)
        # A refinement looks at pixels again when the panels around them are done, about three rows of blocks later.
        rows = 3 if self.settings.refinement == "none" else 6
        return BlockReader(self.slide.read, self.frame, nothing, blocks_to_keep(width_px, rows))


def prepare(slide: Slide, backend: Backend, settings: SegmentSettings) -> SegmentJob:
    frame = check_request(slide, backend.info, settings, any_size=backend.any_size)
    tissue = tissue_mask(slide, everything=settings.tissue == "all")
    has_tissue = partial(_has_tissue, frame, tissue)
    panel_px = settings.panel_px or (_CPU_PANEL_PX if backend.device.type == "cpu" else _GPU_PANEL_PX)
    grid = settings.grid(frame.bounds, backend.info.input, panel_px, any_size=backend.any_size)
    plan = _planned(grid, settings.wanted(frame, slide.path.name), has_tissue, frame, settings)
    sample = sample_windows(grid, has_tissue) if plan.window_count else []
    if settings.backend != "auto":
        backend = backend.running(settings.backend)
    if settings.tta:
        backend = SymmetricBackend(backend)
    boxes = bands(plan)
    plans = [_planned(grid, box, has_tissue, frame, settings) for box in boxes] if len(boxes) > 1 else [plan]
    planned = sum(band.window_count for band in plans)
    return SegmentJob(slide, backend, settings, frame, tissue, plan, tuple(plans), (), sample, planned)


def _planned(
    grid: WindowGrid, wanted: Box, has_tissue: Callable[[Box], bool], frame: MaskFrame, settings: SegmentSettings
) -> Plan:
    refinement = refinement_of(settings.refinement)
    depends_on = refinement.depends_on(wanted, frame.bounds) if refinement else wanted
    return plan_windows(grid, wanted, has_tissue, depends_on)


def _has_tissue(frame: MaskFrame, tissue: TissueMask, box: Box) -> bool:
    region = frame.to_l0(box)
    return region is not None and tissue.covers(region)


def rest_of(folder: Path, meta: ResultMeta, job: SegmentJob) -> tuple[SegmentJob, ResultStore] | None:
    """What is left to do of a result that another run began, and its store; None if the folder holds no such result."""
    try:
        store = ResultStore.open(folder)
        if not store.meta.same_work(meta):
            return None
        backend = job.backend.running(cast(BackendName, store.meta.backend))
        rows = store.go_on([band.wanted for band in job.bands])
    except (ResultError, ConfigError):  # no result, an unreadable one, or one that this machine cannot go on with
        return None
    left, finished = [], []
    for band, count in zip(job.bands, rows, strict=True):
        whole = band.wanted
        finished.append(Box(whole.x0, whole.y0, whole.x1, whole.y0 + count))
        rest = Box(whole.x0, whole.y0 + count, whole.x1, whole.y1)
        if rest:
            has_tissue = partial(_has_tissue, job.frame, job.tissue)
            left.append(_planned(job.plan.grid, rest, has_tissue, job.frame, job.settings) if count else band)
    return replace(job, backend=backend, bands=tuple(left), finished=tuple(finished)), store
