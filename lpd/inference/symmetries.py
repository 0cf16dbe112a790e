"""SymmetricBackend: test-time augmentation; the network sees each window in the square's eight symmetries.

A network answers a little differently when a picture is turned or mirrored, a tissue is the same. The mean over all
eight answers, each turned back, turns and mirrors with the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lpd.inference.adapting import Window
from lpd.inference.backend import Backend
from lpd.inference.prototype_layers import MapLayer, PrototypeMaps
from lpd.inference.settings import BackendName


@dataclass(frozen=True)
class Symmetry:
    """One way to lay a square onto itself: mirrored left to right or not, then turned by quarters."""

    mirrored: bool
    quarters: int

    def of(self, pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(B, h, w, …) pictures, moved."""
        mirrored = pictures[:, :, ::-1] if self.mirrored else pictures
        return np.ascontiguousarray(np.rot90(mirrored, self.quarters, axes=(1, 2)))

    def moved(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) images or maps, moved as :meth:`of` moves pictures."""
        return torch.rot90(maps.flip(3) if self.mirrored else maps, self.quarters, (2, 3))

    def back(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) maps of moved pictures, moved back."""
        turned = torch.rot90(maps, -self.quarters, (2, 3))
        return turned.flip(3) if self.mirrored else turned


#: All eight, the one that leaves everything in its place first.
SYMMETRIES = tuple(itertools.starmap(Symmetry, itertools.product((False, True), range(4))))


class SymmetricBackend:
    """The mean of another backend's answers to the eight symmetries, at eight times its work."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.info, self.name, self.device, self.any_size = backend.info, backend.name, backend.device, backend.any_size
        self.tried = backend.tried

    @property
    def alternatives(self) -> tuple[BackendName, ...]:
        return self._backend.alternatives

    def running(self, name: BackendName) -> SymmetricBackend:
        return SymmetricBackend(self._backend.running(name))

    def logits(self, windows: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        pixel, presence = self._mean(self._backend.logits, windows)
        return pixel, presence

    def planned_maps(self, *, adapt: bool) -> PrototypeMaps:
        return self._backend.planned_maps(adapt=adapt)

    def logits_and_maps(
        self, windows: npt.NDArray[np.uint8], layers: Sequence[MapLayer]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        def answers(moved: npt.NDArray[np.uint8]) -> tuple[Tensor, ...]:
            pixel, presence, maps = self._backend.logits_and_maps(moved, layers)
            return pixel, presence, *maps

        pixel, presence, *maps = self._mean(answers, windows)
        return pixel, presence, tuple(maps)

    def _mean(
        self, answers: Callable[[npt.NDArray[np.uint8]], tuple[Tensor, ...]], windows: npt.NDArray[np.uint8]
    ) -> tuple[Tensor, ...]:
        sums = answers(windows)
        for symmetry in SYMMETRIES[1:]:
            more = answers(symmetry.of(windows))
            sums = tuple(total + symmetry.back(maps) for total, maps in zip(sums, more, strict=True))
        return tuple(total / len(SYMMETRIES) for total in sums)

    def adapted(self, windows: Iterable[Window]) -> SymmetricBackend | None:
        """As the other backend does, from all symmetries of the windows."""
        found = self._backend.adapted(_moved(windows))
        return None if found is None else SymmetricBackend(found)


def _moved(windows: Iterable[Window]) -> Iterator[Window]:
    for pixels, tissue in windows:
        for symmetry in SYMMETRIES:
            yield symmetry.of(pixels[None])[0], symmetry.of(tissue[None])[0]
