"""Region: a rectangle of whole full-resolution pixels in the slide's level-0 frame."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from lpd.errors import ConfigError


@dataclass(frozen=True)
class Region:
    """A rectangle in level-0 pixels; it may reach beyond the slide.

    Attributes:
        x_l0, y_l0: left and top edge, counted from the slide's bounds, x to the right and y down; may be negative.
        width_l0, height_l0: size, at least 1.

    Raises:
        ConfigError: a value is no whole number, or the region is empty.
    """

    x_l0: int
    y_l0: int
    width_l0: int
    height_l0: int

    def __post_init__(self) -> None:
        for name in ("x_l0", "y_l0", "width_l0", "height_l0"):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, operator.index(value))  # NumPy integers become plain ones
            except TypeError:
                raise ConfigError(f"region {name} {value!r} is not a whole number of level-0 pixels") from None
        if self.width_l0 < 1 or self.height_l0 < 1:
            raise ConfigError(f"region size {self.width_l0} × {self.height_l0} px must be at least 1 × 1")

    @property
    def right_l0(self) -> int:
        """x of the first column to the right of the region."""
        return self.x_l0 + self.width_l0

    @property
    def bottom_l0(self) -> int:
        """y of the first row below the region."""
        return self.y_l0 + self.height_l0

    @property
    def area_l0(self) -> int:
        """Number of level-0 pixels."""
        return self.width_l0 * self.height_l0

    def intersection(self, other: Region) -> Region | None:
        """The part that both regions cover, None if they only touch or lie apart."""
        x, y = max(self.x_l0, other.x_l0), max(self.y_l0, other.y_l0)
        width, height = min(self.right_l0, other.right_l0) - x, min(self.bottom_l0, other.bottom_l0) - y
        return Region(x, y, width, height) if width > 0 and height > 0 else None

    def clipped(self, width_l0: int, height_l0: int) -> Region | None:
        """The part inside a slide of the given size, None if the region lies outside it."""
        return self.intersection(Region(0, 0, width_l0, height_l0))

    def contains(self, other: Region) -> bool:
        """True if ``other`` lies wholly inside this region."""
        return self.intersection(other) == other
