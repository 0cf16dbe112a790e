"""What one tile costs the processor: ours against OpenSlide's generator, and against reading and encoding alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import openslide
import torch
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from benchmarks.speed.timing import Clock, Row, compare
from lpd.slide.deepzoom import DeepZoom
from lpd.slide.opening import open_slide
from lpd.slide.slide import Slide
from viewers import images

_TILES = 48
_Place = tuple[int, int]


def single(path: Path, rounds: int) -> list[Row]:
    """CPU time of one process for the same tiles of two levels: one that the file has, and one between two of its."""
    clock = Clock(torch.device("cpu"), busy=True)
    rows = []
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        generator = DeepZoomGenerator(reference, 256, 0)
        zoom = DeepZoom(slide.width_l0, slide.height_l0)
        for name, level in (("a level of the file", zoom.level_count - 1), ("half of it", zoom.level_count - 2)):
            places = _places(zoom, level)
            contestants: dict[str, Callable[[_Place], object]] = {
                "read_region + JPEG encode": partial(_plain, reference, zoom, level),
                "DeepZoomGenerator + Pillow": partial(_generated, generator, level),
                "ours, encoded": partial(_encoded, slide, zoom, level),
            }
            if slide.stored_jpeg(*zoom.tile(level, *places[0])):
                contestants["ours, the file's own"] = partial(_own, slide, zoom, level)
            turns = {who: partial(_all, work, places) for who, work in contestants.items()}
            rows += compare("one tile", f"{name}, {len(places)} tiles", turns, rounds, clock, tiles=len(places))
    return rows


def _places(zoom: DeepZoom, level: int) -> list[_Place]:
    """(column, row) of whole tiles, spread over the level."""
    columns, rows = zoom.grid_size(level)
    every = [(col, row) for row in range(rows - 1) for col in range(columns - 1)]
    return every[:: max(1, len(every) // _TILES)]


def _all(work: Callable[[_Place], object], places: list[_Place]) -> None:
    for place in places:
        work(place)


def _plain(slide: openslide.OpenSlide, zoom: DeepZoom, level: int, place: _Place) -> bytes:
    region, size = zoom.tile(level, *place)
    stored = slide.get_best_level_for_downsample(region.width_l0 / size[0])
    scale = slide.level_downsamples[stored]
    wanted = round(region.width_l0 / scale), round(region.height_l0 / scale)
    picture = slide.read_region((region.x_l0, region.y_l0), stored, wanted).convert("RGB")
    return _by_pillow(picture if wanted == size else picture.resize(size, Image.Resampling.LANCZOS))


def _generated(generator: DeepZoomGenerator, level: int, place: _Place) -> bytes:
    return _by_pillow(generator.get_tile(level, place))


def _by_pillow(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _encoded(slide: Slide, zoom: DeepZoom, level: int, place: _Place) -> bytes:
    return images.jpeg(slide.read(*zoom.tile(level, *place)))


def _own(slide: Slide, zoom: DeepZoom, level: int, place: _Place) -> bytes | None:
    return slide.stored_jpeg(*zoom.tile(level, *place))
