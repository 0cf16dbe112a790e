"""What an export needs of a result: its description and its mask's own pixels, read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lpd.classes import ClassScheme
from lpd.slide.region import Region

Mask = npt.NDArray[np.uint8]

#: Side of the blocks in which masks are read, in mask pixels: some chunks of the store, about 4 MB.
BLOCK_PX = 2048


class Meta(Protocol):
    """The part of ``lpd.inference.meta.ResultMeta`` that exports use; see there."""

    @property
    def slide_name(self) -> str: ...
    @property
    def slide_fingerprint(self) -> str: ...
    @property
    def width_l0(self) -> int: ...
    @property
    def height_l0(self) -> int: ...
    @property
    def mask_mpp(self) -> float: ...
    @property
    def scale(self) -> float: ...
    @property
    def classes(self) -> ClassScheme: ...
    @property
    def checkpoint_name(self) -> str: ...
    @property
    def checkpoint_digest(self) -> str: ...
    @property
    def notice(self) -> str: ...
    @property
    def region(self) -> Region | None: ...
    @property
    def slide_mpp(self) -> float: ...
    @property
    def created(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def backend(self) -> str: ...
    @property
    def made_by(self) -> str: ...
    @property
    def origin_l0(self) -> tuple[int, int]: ...


class MaskSource(Protocol):
    """The part of ``lpd.inference.store.ResultStore`` that exports use; see there."""

    @property
    def meta(self) -> Meta: ...
    @property
    def mask_shape(self) -> tuple[int, int]: ...
    def read_mask(self, region: Region, size: tuple[int, int]) -> Mask: ...
    def read_mask_px(self, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask: ...
    def read_scores_px(self, class_index: int, x_px: int, y_px: int, size: tuple[int, int], step: int = 1) -> Mask: ...


def blocks(store: MaskSource) -> Iterator[tuple[int, int, Mask]]:
    """The whole mask once, as (x, y, uint8 (h, w)) in mask pixels, row by row; each at most BLOCK_PX wide and high."""
    height, width = store.mask_shape
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, BLOCK_PX):
            yield x, y, store.read_mask_px(x, y, (min(BLOCK_PX, width - x), min(BLOCK_PX, height - y)))
