"""Source: what a slide needs from a file format; one class per family of formats provides it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from lpd.slide.levels import Level
from lpd.slide.region import Region


class Source(Protocol):
    """Pixels and facts of one open file, in the file's own frame (before cropping to the bounds). Thread-safe.

    Attributes:
        vendor: format family, for example ``aperio`` or ``plain image``.
        levels: full resolution first.
        bounds: the part of the level-0 frame that holds the slide.
        properties: what the file says of itself, as text.
        icc_profile: the profile of the pixels; None if they are sRGB or nothing is known.
    """

    vendor: str
    levels: tuple[Level, ...]
    bounds: Region
    properties: dict[str, str]
    icc_profile: bytes | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image:
        """RGB pixels of a rectangle that lies inside ``level``, in its own pixels; transparent parts are white.

        Raises:
            SlideError: the file is damaged there, or closed.
        """

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8] | None:
        """What :meth:`read` shows as a fresh array (height, width, 3), where that is the sooner had; else None.

        Raises:
            SlideError: the file is closed.
        """

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        """The file's own JPEG picture of just this rectangle, which shows what :meth:`read` shows; mostly None.

        Raises:
            SlideError: the file is closed.
        """

    def associated(self) -> dict[str, Image]:
        """Further pictures in the file by name (label, macro, thumbnail), RGB; unreadable ones are left out."""

    def close(self) -> None:
        """Free the file; later reads raise :class:`lpd.errors.SlideError`."""
