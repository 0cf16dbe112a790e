"""A synthetic H&E-like slide with its true mask, and the same as a BCSS-layout tile set, for tests and demos."""

from lpd.data.phantom.slide import mask_path, write_phantom_slide
from lpd.data.phantom.tiles import TileSetSpec, write_phantom_tiles

__all__ = ["TileSetSpec", "mask_path", "write_phantom_slide", "write_phantom_tiles"]
