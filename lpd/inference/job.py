"""SegmentJob: one slide, one model and how they are brought together, settled and checked before the first window."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lpd.errors import ConfigError
from lpd.inference.adapting import Window, read_windows, sample_windows
from lpd.inference.backend import Backend
from lpd.inference.bands import bands
from lpd.inference.blocks import BlockReader, blocks_to_keep, rows_touched
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.meta import ResultMeta, ResultPart
from lpd.inference.prototype_maps import check_prototypes
from lpd.inference.refining import refinement_of
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import now
from lpd.inference.symmetries import SymmetricBackend
from lpd.inference.wanted import PixelSet, Wanted, pixels_of
from lpd.inference.windows import Plan, WindowGrid, plan_windows
from lpd.model.header import CheckpointInfo, file_digest
from lpd.runs import Run
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.pieces import TissuePieces, find_pieces
from lpd.slide.region import Region
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
    asked_of(slide, settings, frame)
    if settings.prototype_maps:
        check_prototypes(info)
    settings.grid(frame.bounds, info.input, _CPU_PANEL_PX, any_size=any_size)
    return frame


def asked_of(slide: Slide, settings: SegmentSettings, frame: MaskFrame, tissue: TissueMask | None = None) -> PixelSet:
    """The mask pixels that are asked for.

    Args:
        tissue: of the slide; None to look for it if pieces of it are asked for.

    Raises:
        ConfigError: they do not lie on the slide, see :func:`~lpd.inference.wanted.pixels_of`.
    """
    return pixels_of(settings.place, frame, slide.path.name, partial(pieces_of, slide, settings, tissue))


def pieces_of(slide: Slide, settings: SegmentSettings, tissue: TissueMask | None = None) -> TissuePieces:
    """The slide's pieces of tissue, numbered."""
    return find_pieces(tissue or tissue_mask(slide, everything=settings.tissue == "all"))


def describe(slide: Slide, info: CheckpointInfo, settings: SegmentSettings) -> ResultMeta:
    """What the result will say of itself; how the network is run is not known yet."""
    created = now()
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
        created=created,
        settings=settings.to_dict(),
        origin_l0=slide.origin_l0,
        parts=(ResultPart(settings.place, created),),
    )


@dataclass(frozen=True, eq=False)
class Band:
    """Mask pixels that are computed together, and the windows for them."""

    wanted: Wanted
    plan: Plan


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """Everything that is fixed before the first window.

    Attributes:
        asked: mask pixels of the place.
        wanted: those that are not there yet.
        plan: windows for them.
        bands: the same cut into what is computed one after another.
        sample: windows from all over the slide.
        planned: how many windows all bands have, also where an earlier run has seen some.
    """

    slide: Slide
    backend: Backend
    settings: SegmentSettings
    frame: MaskFrame
    tissue: TissueMask
    asked: PixelSet
    wanted: Wanted
    plan: Plan
    bands: tuple[Band, ...]
    sample: list[Box]
    planned: int

    @property
    def has_tissue(self) -> Callable[[Box], bool]:
        """Tells whether there is tissue inside a box of mask pixels."""
        return partial(_has_tissue, self.frame, self.tissue)

    @property
    def rectangle(self) -> Region | None:
        """Level-0 pixels around what is asked for; None for the whole slide."""
        return None if self.settings.place.whole else self.frame.to_l0(self.asked.box)

    @property
    def window_count(self) -> int:
        """Windows to compute; those across a cut between bands count twice."""
        return sum(band.plan.window_count for band in self.bands)

    def to_compute(self, wanted: Wanted) -> SegmentJob:
        """The same job for other pixels of what is asked for."""
        plan = self._planned(wanted)
        boxes = bands(plan) if wanted.box else []
        parts = [wanted.part(box) for box in boxes] if len(boxes) > 1 else [wanted][: len(boxes)]
        cut = tuple(Band(part, self._planned(part) if len(boxes) > 1 else plan) for part in parts if part.box)
        return replace(self, wanted=wanted, plan=plan, bands=cut)

    def _planned(self, wanted: Wanted) -> Plan:
        return planned(self.plan.grid, wanted, self.has_tissue, self.frame, self.settings)

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
        widest = max((band.plan.wanted.width for band in self.bands), default=0)
        return read_windows(boxes, margin_px, self.reader(widest), where, threads)

    def reader(self, width_px: int) -> BlockReader:
        """Reads the slide's pixels; keeps what reading panels row by row at this width needs."""
        # Beyond the slide comes the colour that is zero to the network, as beyond the border of a tile in training.
        nothing = np.rint(255 * np.array(self.backend.info.input.mean)).astype(np.uint8)
        grid = self.plan.grid
        rows = rows_touched(grid.panel_px + grid.overhang_px + 2 * grid.margin_px)
        # A refinement looks at pixels again when the panels around them are done, about three rows of blocks later.
        rows += 3 if self.settings.refinement != "none" else 0
        return BlockReader(self.slide.read, self.frame, nothing, blocks_to_keep(width_px, rows))


def prepare(slide: Slide, backend: Backend, settings: SegmentSettings) -> SegmentJob:
    frame = check_request(slide, backend.info, settings, any_size=backend.any_size)
    tissue = tissue_mask(slide, everything=settings.tissue == "all")
    has_tissue = partial(_has_tissue, frame, tissue)
    panel_px = settings.panel_px or (_CPU_PANEL_PX if backend.device.type == "cpu" else _GPU_PANEL_PX)
    grid = settings.grid(frame.bounds, backend.info.input, panel_px, any_size=backend.any_size)
    asked = asked_of(slide, settings, frame, tissue)
    wanted = Wanted(asked)
    plan = planned(grid, wanted, has_tissue, frame, settings)
    sample = sample_windows(grid, has_tissue) if plan.window_count else []
    if settings.backend != "auto":
        backend = backend.running(settings.backend)
    if settings.tta:
        backend = SymmetricBackend(backend)
    job = SegmentJob(slide, backend, settings, frame, tissue, asked, wanted, plan, (), sample, 0)
    job = job.to_compute(wanted)
    return replace(job, planned=job.window_count)


def planned(
    grid: WindowGrid, wanted: Wanted, has_tissue: Callable[[Box], bool], frame: MaskFrame, settings: SegmentSettings
) -> Plan:
    """The windows to compute, none if nothing is wanted."""
    if not wanted.box:
        return Plan(grid, wanted.box, range(1), range(1), np.zeros((1, 1), np.bool_))
    refinement = refinement_of(settings.refinement)
    if refinement is None:
        return plan_windows(grid, wanted.box, has_tissue, needs=wanted.any)
    depends_on, needs = refinement.depends_on(wanted.box, frame.bounds), refinement.needs(wanted, frame.bounds)
    return plan_windows(grid, wanted.box, has_tissue, depends_on, needs)


def _has_tissue(frame: MaskFrame, tissue: TissueMask, box: Box) -> bool:
    region = frame.to_l0(box)
    return region is not None and tissue.covers(region)
