"""SegmentSettings: what a person may choose about one segmentation; the same for library, CLI and app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError
from lpd.inference.frame import Box, MaskFrame
from lpd.inference.meta import CELL_PX
from lpd.inference.windows import WindowGrid
from lpd.slide.region import Region

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda", "mps")
TissueChoice = Literal["auto", "all"]
TISSUE_CHOICES: tuple[TissueChoice, ...] = ("auto", "all")
#: Far above what helps, and low enough that a slip of the finger takes neither all memory nor all threads.
_LARGEST = {"stride_px": 4096, "batch_size": 4096, "threads": 1024, "reader_threads": 256, "panel_px": 16_384}


@dataclass(frozen=True)
class SegmentSettings(Settings):
    """How to segment.

    Attributes:
        region: level-0 pixels to segment; None for the whole slide.
        stride_px: distance of neighbouring windows; None for :func:`default_stride_px`.
        smooth_px: reach of the triangle that smooths each window's pixel logits, a multiple of 4; 0 leaves them as they
            are. More makes the mask depend less on where the grid of windows lies, and rounds off small areas.
        tissue: ``auto`` leaves out glass and marks it background, ``all`` shows every pixel to the network.
        device: where the network runs; ``auto`` takes a GPU if there is one.
        batch_size: windows per forward pass, at most 4096; None for 4 on a CPU, 64 on a GPU.
        threads: CPU threads of the network, at most 1024; None for all cores.
        reader_threads: threads that read the slide, at most 256.
        panel_px: about how much is stored at once, width and height; None for 512 on a CPU (so that the mask is
            seen to grow) and 2048 on a GPU. It does not change the result.
        grid_offset_px: moves the grid of windows; for tests of seams.

    Raises:
        ConfigError: a value is out of range.
    """

    region: Region | None = None
    stride_px: int | None = None
    smooth_px: int = 8
    tissue: TissueChoice = "auto"
    device: DeviceName = "auto"
    batch_size: int | None = None
    threads: int | None = None
    reader_threads: int = 2
    panel_px: int | None = None
    grid_offset_px: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tissue not in TISSUE_CHOICES:
            raise ConfigError(f"tissue {self.tissue!r} is not one of {', '.join(TISSUE_CHOICES)}")
        if self.device not in DEVICES:
            raise ConfigError(f"device {self.device!r} is not one of {', '.join(DEVICES)}")
        if self.smooth_px < 0 or self.smooth_px % CELL_PX:
            raise ConfigError(f"smooth_px {self.smooth_px} must be 0 or a multiple of {CELL_PX}")
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= largest:
                raise ConfigError(f"{name} {value} must lie in 1 to {largest}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SegmentSettings:
        """Rebuild from ``to_dict``, the region included."""
        region = data.get("region")
        return super().from_dict({**data, "region": Region(**region) if isinstance(region, Mapping) else region})

    def grid(self, bounds: Box, spec: InputSpec, panel_px: int) -> WindowGrid:
        """The grid of windows over a mask, panels being at least one overlap and about ``panel_px`` wide.

        Raises:
            ConfigError: stride or offset do not fit the network's tile.
        """
        stride = self.stride_px or default_stride_px(spec.tile_px)
        strides = max(1, round(panel_px / stride), -(-(spec.tile_px - stride) // stride))
        return WindowGrid(bounds.width, bounds.height, spec.tile_px, stride, self.grid_offset_px, strides)

    def wanted(self, frame: MaskFrame, slide_name: str) -> Box:
        """Mask pixels to store.

        Raises:
            ConfigError: the region reaches outside of the slide.
        """
        if self.region is None:
            return frame.bounds
        if self.region.clipped(frame.width_l0, frame.height_l0) != self.region:
            r = self.region
            raise ConfigError(
                f"region {r.x_l0} {r.y_l0} {r.width_l0} {r.height_l0} reaches outside of {slide_name}, "
                f"which is {frame.width_l0} x {frame.height_l0} px: choose a region inside it"
            )
        return frame.to_mask(self.region)


def default_stride_px(tile_px: int) -> int:
    """About three eighths of a window, but an odd multiple of 4 px (84 for 224).

    Neighbouring windows then see the network's cells of 8, 16 and 32 px at other phases, and what depends on the phase
    averages out. docs/decisions/0004 has the figures.
    """
    return 3 * tile_px // 64 * 8 + CELL_PX
