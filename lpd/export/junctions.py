"""Junctions: the corners between cells where three or more borders meet, gathered block by block."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpd.export.rings import Points
from lpd.export.source import Mask

Flags = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.int64]


class Junctions:
    """What depends on the values of the four cells around a corner alone, and so is the same to all their regions."""

    def __init__(self) -> None:
        self._keys: list[Keys] = [np.empty(0, np.int64)]

    def add(self, framed: Mask, x: int, y: int) -> None:
        """Look at a block.

        Args:
            framed: (h + 2, w + 2) mask values of the block and of the cells around it.
            x, y: the block's first column and row in the grid.
        """
        across = (framed[:, 1:] != framed[:, :-1]).astype(np.uint8)
        down = (framed[1:] != framed[:-1]).astype(np.uint8)
        borders = across[1:] + across[:-1] + down[:, 1:] + down[:, :-1]
        rows, columns = np.nonzero(borders >= 3)
        self._keys.append(_keys(np.stack([columns + x, rows + y], 1)))

    def meet_at(self, points: Points) -> Flags:
        """Whether each point (N, 2), as (x, y) in cell edges, is a junction."""
        if len(self._keys) > 1:
            self._keys = [np.unique(np.concatenate(self._keys))]
        known, wanted = self._keys[0], _keys(points)
        if not len(known):
            return np.zeros(len(points), np.bool_)
        flags: Flags = known[np.searchsorted(known, wanted).clip(max=len(known) - 1)] == wanted
        return flags


def _keys(points: Points) -> Keys:
    keys: Keys = points[:, 1] << 32 | points[:, 0]
    return keys
