"""CellSample: some cells of a class's region, drawn evenly while squares of slides pass by. Needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lpd.inference.pyramid import Bytes

#: Cells of a class that are kept.
SAMPLE = 500

Keys = npt.NDArray[np.uint64]
_COLUMN_BITS, _PLACE_BITS = 24, 48


def drawing_keys(slide: int, rows: slice, columns: slice) -> Keys:
    """Numbers without order, one for each cell, which depend on where it lies alone: the lowest are drawn.

    So the same cells are drawn whatever the squares that a slide is read in.

    Args:
        slide: its number among those that are looked at.
        rows, columns: of the grid.

    Returns:
        (h, w), all different.
    """
    y, x = (np.arange(cells.start, cells.stop, dtype=np.uint64) for cells in (rows, columns))
    keys = (np.uint64(slide) << np.uint64(_PLACE_BITS)) + (y[:, None] << np.uint64(_COLUMN_BITS)) + x
    # The last step of SplitMix64 (Steele et al. 2014), which takes no two numbers to one.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(keys ^ (keys >> np.uint64(31)))


class CellSample:
    """At most ``SAMPLE`` cells.

    Attributes:
        maps: (K, n) their bytes.
    """

    def __init__(self, per_class: int) -> None:
        """Of K maps."""
        self.maps: Bytes = np.zeros((per_class, 0), np.uint8)
        self._keys: Keys = np.zeros(0, np.uint64)

    def add(self, maps: Bytes, keys: Keys) -> None:
        """Offer (K, n) cells with their (n,) keys."""
        keys = np.concatenate([self._keys, keys])
        kept = np.argsort(keys)[:SAMPLE]
        self.maps, self._keys = np.concatenate([self.maps, maps], axis=1)[:, kept], keys[kept]
