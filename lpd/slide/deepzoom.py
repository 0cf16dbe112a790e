"""DeepZoom: which part of the slide each Deep Zoom tile shows; pure geometry, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

from lpd.errors import ConfigError
from lpd.slide.region import Region

#: Namespace that Deep Zoom viewers look for in a descriptor.
_NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


@dataclass(frozen=True)
class DeepZoom:
    """A Deep Zoom pyramid without overlap over a slide of ``width_l0`` × ``height_l0`` pixels.

    Level numbers rise with detail: level 0 is one pixel, level ``level_count - 1`` is full resolution, each level is
    half the next, rounded up. Columns and rows count from 0 at the top left.

    Raises:
        ConfigError: a size is below 1.
    """

    width_l0: int
    height_l0: int
    tile_px: int = 256

    def __post_init__(self) -> None:
        if min(self.width_l0, self.height_l0, self.tile_px) < 1:
            raise ConfigError(
                f"Deep Zoom needs sizes of at least 1 px, not {self.width_l0} × {self.height_l0} "
                f"in tiles of {self.tile_px}"
            )

    @property
    def level_count(self) -> int:
        """Number of levels: ``ceil(log2(longest side)) + 1``."""
        return (max(self.width_l0, self.height_l0) - 1).bit_length() + 1

    def downsample(self, level: int) -> int:
        """Level-0 pixels per pixel of ``level``, a power of two.

        Raises:
            ConfigError: the level does not exist.
        """
        if not 0 <= level < self.level_count:
            raise ConfigError(f"Deep Zoom level {level} does not exist: levels are 0 to {self.level_count - 1}")
        return 1 << (self.level_count - 1 - level)

    def level_size(self, level: int) -> tuple[int, int]:
        """(width, height) of ``level`` in its own pixels."""
        step = self.downsample(level)
        return -(-self.width_l0 // step), -(-self.height_l0 // step)

    def grid_size(self, level: int) -> tuple[int, int]:
        """(columns, rows) of tiles at ``level``."""
        width, height = self.level_size(level)
        return -(-width // self.tile_px), -(-height // self.tile_px)

    def tile(self, level: int, col: int, row: int) -> tuple[Region, tuple[int, int]]:
        """The region a tile shows and its (width, height) in pixels.

        The last column and row end exactly at the slide's edge, where a viewer draws them, so their pixels may be a
        little narrower than the others'.

        Raises:
            ConfigError: there is no such tile.
        """
        step = self.downsample(level)
        cols, rows = self.grid_size(level)
        if not (0 <= col < cols and 0 <= row < rows):
            raise ConfigError(f"Deep Zoom level {level} has {cols} × {rows} tiles, none at column {col}, row {row}")
        x, width, width_px = _extent(col, step, self.tile_px, self.width_l0)
        y, height, height_px = _extent(row, step, self.tile_px, self.height_l0)
        return Region(x, y, width, height), (width_px, height_px)

    def descriptor(self, format: str = "jpeg") -> str:
        """The ``.dzi`` document that viewers load first; ``format`` is the file ending of the tiles."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="{_NAMESPACE}" Format="{format}" Overlap="0" TileSize="{self.tile_px}">'
            f'<Size Width="{self.width_l0}" Height="{self.height_l0}"/></Image>\n'
        )


def _extent(index: int, step: int, tile_px: int, length_l0: int) -> tuple[int, int, int]:
    """(start, length) at level 0 and length in tile pixels of a tile along one axis."""
    start = index * tile_px * step
    length = min(tile_px * step, length_l0 - start)
    return start, length, -(-length // step)
