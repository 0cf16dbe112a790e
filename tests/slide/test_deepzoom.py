"""DeepZoom: the same pyramid as OpenSlide's own generator, and tiles that cover the slide once."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import pytest
from openslide.deepzoom import DeepZoomGenerator

from lpd.errors import ConfigError
from lpd.slide.deepzoom import DeepZoom

SIZES = [(1, 1), (2, 1), (255, 3), (256, 256), (257, 256), (2220, 2967), (4443, 3567), (97_341, 68_713)]


@dataclass
class OneLevel:
    """What DeepZoomGenerator asks of a slide, without pixels."""

    dimensions: tuple[int, int]

    @property
    def level_dimensions(self) -> list[tuple[int, int]]:
        return [self.dimensions]

    level_count = 1
    level_downsamples = (1.0,)

    @property
    def properties(self) -> dict[str, str]:
        return {}

    def get_best_level_for_downsample(self, _downsample: float) -> int:
        return 0


@pytest.mark.parametrize("size", SIZES)
def test_same_geometry_as_openslide(size: tuple[int, int]) -> None:
    theirs = DeepZoomGenerator(OneLevel(size), tile_size=256, overlap=0)
    ours = DeepZoom(*size)
    assert ours.level_count == theirs.level_count
    assert tuple(ours.level_size(i) for i in range(ours.level_count)) == theirs.level_dimensions
    assert tuple(ours.grid_size(i) for i in range(ours.level_count)) == theirs.level_tiles
    for level in range(ours.level_count):
        cols, rows = ours.grid_size(level)
        for col, row in {(0, 0), (cols - 1, 0), (0, rows - 1), (cols - 1, rows - 1), (cols // 2, rows // 2)}:
            region, tile_size = ours.tile(level, col, row)
            location, _, extent = theirs.get_tile_coordinates(level, (col, row))
            assert (region.x_l0, region.y_l0) == location
            assert tile_size == theirs.get_tile_dimensions(level, (col, row))
            assert (region.width_l0, region.height_l0) == extent


@pytest.mark.parametrize("level", range(11))
def test_tiles_cover_each_pixel_once(level: int) -> None:
    zoom = DeepZoom(1000, 523, tile_px=64)
    assert zoom.level_count == 11
    hits = np.zeros((523, 1000), np.uint8)
    area_px = 0
    cols, rows = zoom.grid_size(level)
    for col in range(cols):
        for row in range(rows):
            region, (width, height) = zoom.tile(level, col, row)
            hits[region.y_l0 : region.bottom_l0, region.x_l0 : region.right_l0] += 1
            area_px += width * height
            assert 1 <= width <= 64
            assert 1 <= height <= 64
    assert (hits == 1).all()
    assert area_px == np.prod(zoom.level_size(level))


@pytest.mark.parametrize("address", [(-1, 0, 0), (99, 0, 0), (9, -1, 0), (9, 8, 0), (9, 0, 5)])
def test_addresses_outside_are_refused(address: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="Deep Zoom level"):
        DeepZoom(1000, 523, tile_px=64).tile(*address)


def test_descriptor_is_what_viewers_read() -> None:
    image = ElementTree.fromstring(DeepZoom(1000, 523).descriptor("png"))
    assert image.tag == "{http://schemas.microsoft.com/deepzoom/2008}Image"
    assert image.attrib == {"Format": "png", "Overlap": "0", "TileSize": "256"}
    assert image[0].attrib == {"Width": "1000", "Height": "523"}


def test_empty_slide_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 × 5"):
        DeepZoom(0, 5)
