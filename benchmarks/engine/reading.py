"""Reading every pixel of level 0 once: what that costs beside decoding the same bytes and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import openslide
import simplejpeg

from benchmarks.engine.scene import Scene
from benchmarks.speed.timing import Row, compare
from lpd.slide.jpeg_tiles import find_jpeg_tiles
from lpd.slide.levels import make_levels
from lpd.slide.region import Region

_SIDE_PX = 1024


def reading(scene: Scene) -> list[Row]:
    """libjpeg-turbo, this package, and OpenSlide, one thread each; nothing for a slide that is no tiled JPEG."""
    with openslide.OpenSlide(scene.slide) as reference:
        levels = make_levels(reference.level_dimensions)
    tiles = find_jpeg_tiles(scene.slide, levels).get(0)
    if tiles is None:
        return []
    with scene.slide.open("rb") as file:
        streams = [tiles.stream(file, column, row) for row in range(tiles.rows) for column in range(tiles.columns)]
    boxes = [(x, y) for y in range(0, levels[0].height_px, _SIDE_PX) for x in range(0, levels[0].width_px, _SIDE_PX)]

    def decode() -> None:
        for stream in streams:
            simplejpeg.decode_jpeg(stream, "RGB")

    case = f"{levels[0].width_px} × {levels[0].height_px} px, {len(streams)} tiles, {scene.slide.stem}"
    with scene.opened() as slide, openslide.OpenSlide(scene.slide) as other:

        def ours() -> None:
            for x, y in boxes:
                slide.read(Region(x, y, _SIDE_PX, _SIDE_PX), (_SIDE_PX, _SIDE_PX))

        def by_openslide() -> None:
            for x, y in boxes:
                other.read_region((x, y), 0, (_SIDE_PX, _SIDE_PX))

        contestants: dict[str, Callable[[], object]] = {
            "libjpeg-turbo, the same bytes": decode,
            "Slide.read, 1024 px": ours,
            "OpenSlide, 1024 px": by_openslide,
        }
        return compare("reading", case, contestants, scene.rounds, scene.clock)
