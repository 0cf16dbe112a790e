"""Region: whole numbers only, and the arithmetic of rectangles."""

from __future__ import annotations

import numpy as np
import pytest

from lpd.errors import ConfigError
from lpd.slide.region import Region


def test_edges_and_area() -> None:
    region = Region(-3, 4, 10, 20)
    assert (region.right_l0, region.bottom_l0, region.area_l0) == (7, 24, 200)


def test_numpy_integers_become_plain() -> None:
    assert type(Region(np.int64(1), 2, np.int32(3), 4).x_l0) is int


@pytest.mark.parametrize("values", [(0, 0, 0, 1), (0, 0, 1, -1), (0.5, 0, 1, 1), ("0", 0, 1, 1)])
def test_nonsense_is_refused(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError):
        Region(*values)


def test_intersection() -> None:
    a = Region(0, 0, 10, 10)
    assert a.intersection(Region(5, -5, 10, 10)) == Region(5, 0, 5, 5)
    assert a.intersection(Region(10, 0, 5, 5)) is None
    assert a.intersection(Region(-9, -9, 9, 9)) is None


def test_clip_and_contain() -> None:
    assert Region(-2, -2, 100, 5).clipped(50, 50) == Region(0, 0, 50, 3)
    assert Region(60, 0, 1, 1).clipped(50, 50) is None
    assert Region(0, 0, 5, 5).contains(Region(1, 1, 4, 4))
    assert not Region(0, 0, 5, 5).contains(Region(1, 1, 5, 4))
