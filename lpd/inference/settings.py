"""SegmentSettings: what a person may choose about one segmentation; the same for library, CLI and app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError
from lpd.inference.frame import Box
from lpd.inference.place import Place
from lpd.inference.windows import LATTICE_PX, WindowGrid
from lpd.slide.polygon import Polygon
from lpd.slide.region import Region

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda", "mps")
BackendName = Literal["auto", "torch", "torch-frozen", "torch-bf16", "torch-fp16", "openvino", "openvino-bf16"]
#: The ways to run a network; ``torch``, PyTorch in fp32, is the reference for all others.
BACKENDS: tuple[BackendName, ...] = (
    *("auto", "torch", "torch-frozen", "torch-bf16", "torch-fp16"),
    *("openvino", "openvino-bf16"),
)
RefinementName = Literal["none", "crf", "pamr"]
REFINEMENTS: tuple[RefinementName, ...] = ("none", "crf", "pamr")
TissueChoice = Literal["auto", "all"]
TISSUE_CHOICES: tuple[TissueChoice, ...] = ("auto", "all")
#: docs/decisions/0004 has the figures.
_TILES_PER_WINDOW = 3
#: About a tenth of a window on each side counts for nothing.
_MARGIN_PART = 10
#: A small network takes 1 GB of memory for one such window.
_LARGEST_WINDOW_PX = 2048
#: Far above what helps, and low enough that a slip of the finger takes neither all memory nor all threads.
_LARGEST = {
    "window_px": _LARGEST_WINDOW_PX,
    "stride_px": _LARGEST_WINDOW_PX,
    "batch_size": 4096,
    "threads": 1024,
    "reader_threads": 256,
    "panel_px": 16_384,
}


@dataclass(frozen=True)
class SegmentSettings(Settings):
    """How to segment.

    Attributes:
        region: level-0 pixels to segment; None for the whole slide.
        polygons: in place of a region: whatever lies inside any of them.
        pieces: in place of both: numbers of pieces of tissue, see :func:`lpd.slide.pieces.find_pieces`.
        window_px: side of what the network sees at once, a multiple of 32; None for three of the model's tiles, or one
            where the encoder knows no other size. Larger windows depend less on where they lie.
        stride_px: distance of neighbouring windows, a multiple of 32; None for two thirds of a window, or three
            sevenths where it is one tile.
        tissue: ``auto`` leaves out glass and marks it background, ``all`` shows every pixel to the network.
        adapt: let prototypes of the slide's own correct the map, see :mod:`lpd.model.adaptation`; they are taken from
            windows all over the slide, about a quarter of them at most, also if only a region is asked for.
        tta: test-time augmentation: the network sees each window in the eight symmetries of the square, and the mean
            counts, see :mod:`lpd.inference.symmetries`; eight times the work.
        refinement: move the mask's borders to edges of colour, see :mod:`lpd.inference.refining`; the stored class
            scores stay as they are.
        prototype_maps: keep the map of every prototype over the slide too, see :mod:`lpd.inference.prototype_layers`.
        device: where the network runs; ``auto`` takes a GPU if there is one.
        backend: how the encoder is run there; ``auto`` takes what is quickest among those that agree with the reference
            on windows of this slide, see :mod:`lpd.inference.choosing`.
        batch_size: windows per forward pass, at most 4096; None for as many as hold 4 tiles of 224 px on a CPU, 64 on a
            GPU, one at least.
        threads: CPU threads of the network, at most 1024; None for all cores.
        reader_threads: threads that read the slide, at most 256.
        panel_px: about how much is stored at once, width and height; None for 512 on a CPU (so that the mask
            is seen to grow) and 2048 on a GPU. It does not change the result.
        grid_offset_px: moves the grid of windows; for tests of seams.

    Raises:
        ConfigError: a value is out of range, or more than one of region, polygons and pieces is given.
    """

    region: Region | None = None
    polygons: tuple[Polygon, ...] = ()
    pieces: tuple[int, ...] = ()
    window_px: int | None = None
    stride_px: int | None = None
    tissue: TissueChoice = "auto"
    adapt: bool = True
    tta: bool = False
    refinement: RefinementName = "none"
    prototype_maps: bool = False
    device: DeviceName = "auto"
    backend: BackendName = "auto"
    batch_size: int | None = None
    threads: int | None = None
    reader_threads: int = 2
    panel_px: int | None = None
    grid_offset_px: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({name: (1, largest) for name, largest in _LARGEST.items()})
        if sum(map(bool, (self.region, self.polygons, self.pieces))) > 1:
            raise ConfigError(
                "region, polygons and pieces cannot be asked for together: run once for each, they add up"
            )

    @property
    def place(self) -> Place:
        """Which part of the slide is asked for."""
        return Place(self.region, self.polygons, self.pieces)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **self.place.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SegmentSettings:
        """Rebuild from ``to_dict``, region and polygons included."""
        place = Place.from_dict(data)
        return super().from_dict({**data, **vars(place)})

    def grid(self, bounds: Box, spec: InputSpec, panel_px: int, *, any_size: bool) -> WindowGrid:
        """The grid of windows over a mask, panels being at least one overlap and about ``panel_px`` wide.

        Args:
            bounds: of the mask.
            spec: what the network was trained on.
            panel_px: see there.
            any_size: whether the network sees a picture alike in windows larger than its tiles.

        Raises:
            ConfigError: window, stride or offset do not fit the network.
        """
        seen, tile = self.window_px or (largest_window_px(spec.tile_px) if any_size else spec.tile_px), spec.tile_px
        if seen % LATTICE_PX or seen < tile or (seen > tile and not any_size):
            largest = "" if any_size else "; this encoder knows no larger ones"
            raise ConfigError(
                f"window_px {seen} must be a multiple of {LATTICE_PX}, the network's coarsest step, "
                f"and at least {tile}, the model's tile{largest}"
            )
        # A window of one tile shows the network what it was trained on, borders included: nothing of it is left out.
        margin = _down(seen // _MARGIN_PART) if seen >= max(tile + 1, 4 * LATTICE_PX) else 0
        core = seen - 2 * margin
        stride = self.stride_px or (_down(3 * seen // 7) if seen == tile else _down(min(2 * seen // 3, core - 1)))
        for name, value in (("stride_px", stride), ("grid_offset_px", self.grid_offset_px)):
            if value % LATTICE_PX:
                raise ConfigError(f"{name} {value} must be a multiple of {LATTICE_PX}, the network's coarsest step")
        if stride > core:
            raise ConfigError(
                f"stride_px {stride} leaves gaps: of windows of {seen} px the inner {core} count; pass at most {core}"
            )
        strides = max(1, round(panel_px / stride), -(-(core - stride) // stride))
        return WindowGrid(
            bounds.width,
            bounds.height,
            core,
            stride,
            margin_px=margin,
            gate_px=spec.tile_px,
            offset_px=self.grid_offset_px,
            panel_strides=strides,
        )


def largest_window_px(tile_px: int) -> int:
    """Side of the window that suits tiles of ``tile_px`` best: three of them, or as many as memory allows."""
    return max(1, min(_TILES_PER_WINDOW, _LARGEST_WINDOW_PX // tile_px)) * tile_px


def _down(length_px: int) -> int:
    """The largest whole number of the network's steps in a length, one at least."""
    return max(LATTICE_PX, length_px // LATTICE_PX * LATTICE_PX)
