"""JPEG tiles are read without OpenSlide where that shows the same to the last bit, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import openslide
import pytest

from lpd.errors import SlideError
from lpd.slide import direct_reader, openslide_source
from lpd.slide.direct_reader import DirectReader
from lpd.slide.jpeg_tiles import find_jpeg_tiles
from lpd.slide.openslide_source import OpenSlideSource

from .jpeg_slide import TILE, texture, write_jpeg_slide

WIDTH, HEIGHT = 509, 383
BOXES = [
    (0, 0, WIDTH, HEIGHT),
    (0, 0, 1, 1),
    (WIDTH - 1, HEIGHT - 1, 1, 1),
    (63, 64, 65, 64),
    (64, 128, 64, 64),
    (100, 7, 301, 222),
]


def levels() -> list[np.ndarray]:
    full = texture(WIDTH, HEIGHT)
    return [full, np.ascontiguousarray(full[: HEIGHT // 4 * 4 : 4, : WIDTH // 4 * 4 : 4])]


@pytest.fixture(params=[False, True], ids=["ycbcr", "rgb"])
def slide(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_jpeg_slide(tmp_path / "a.tif", levels(), rgb=request.param)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], OpenSlideSource]]:
    sources: list[OpenSlideSource] = []

    def open_one(path: Path) -> OpenSlideSource:
        sources.append(OpenSlideSource(path))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch):
    """From now on OpenSlide's own reading is an error."""

    def start() -> None:
        def refuse(*_args: object) -> None:
            pytest.fail("read by OpenSlide")

        monkeypatch.setattr(OpenSlideSource, "_composed", refuse)

    return start


def test_every_pixel_is_the_one_that_openslide_shows(opened, slide: Path, never):
    source = opened(slide)
    source.read(0, 0, 0, 1, 1)  # compares
    never()
    with openslide.OpenSlide(slide) as reference:
        for x, y, width, height in BOXES:
            expected = reference.read_region((x, y), 0, (width, height)).convert("RGB")
            np.testing.assert_array_equal(np.asarray(source.read(0, x, y, width, height)), np.asarray(expected))
        # Level 1 lost a column and three rows: OpenSlide shows it whole, or interpolated.
        expected = reference.read_region((0, 0), 1, reference.level_dimensions[1]).convert("RGB")
    for x, y, width, height in ((0, 0, 127, 95), (70, 11, 50, 80)):
        seen = np.asarray(source.read(1, x, y, width, height))
        np.testing.assert_array_equal(seen, np.asarray(expected)[y : y + height, x : x + width])
    assert np.abs(np.asarray(source.read(0, 0, 0, WIDTH, HEIGHT)).astype(int) - levels()[0]).mean() < 6  # no other hue


def test_colours_that_differ_from_openslide_s_are_left_to_openslide(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_jpeg_slide(tmp_path / "a.tif", levels(), rgb=True)
    monkeypatch.setattr("lpd.slide.jpeg_tiles._IS_RGB", b"")  # decoded as if it were YCbCr
    source = opened(path)
    seen = np.asarray(source.read(0, 5, 6, 200, 100)).astype(int)
    assert np.abs(seen - levels()[0][6:106, 5:205]).mean() < 6
    assert source._direct is not None
    assert source._direct.read(0, 5, 6, 200, 100) is None


def test_one_pixel_that_differs_is_enough(opened, slide: Path):
    def off_by_one(level: int, x: int, y: int, width: int, height: int):
        picture = opened(slide)._shown(level, x, y, width, height)
        picture.putpixel((width // 2, height // 2), tuple(v ^ 1 for v in picture.getpixel((width // 2, height // 2))))
        return picture

    source = opened(slide)
    for reference, trusted in ((source._shown, True), (off_by_one, False), (lambda *_: None, False)):
        with closing(DirectReader(slide, source.levels, reference)) as reader:
            assert (reader.read(0, 0, 0, 9, 9) is not None) == trusted


def test_a_tile_that_the_file_leaves_out_is_openslide_s_business(opened, tmp_path: Path):
    path = write_jpeg_slide(tmp_path / "a.tif", levels(), left_out=0)
    with openslide.OpenSlide(path) as reference:
        try:
            reference.read_region((0, 0), 0, (TILE, TILE))
            fails = False
        except openslide.OpenSlideError:
            fails = True
    source = opened(path)
    np.testing.assert_array_equal(
        np.asarray(source.read(0, 2 * TILE, 0, 90, 90)), np.asarray(source._shown(0, 2 * TILE, 0, 90, 90))
    )
    assert source._direct is not None
    assert source._direct.read(0, 0, 0, 9, 9) is None
    if fails:
        with pytest.raises(SlideError, match="damaged"):
            source.read(0, 0, 0, 9, 9)
    else:
        assert source.read(0, 0, 0, 9, 9).size == (9, 9)


@pytest.mark.parametrize("kind", ["zeros", "flips"])
def test_a_damaged_tile_is_never_shown_as_if_it_were_sound(opened, slide: Path, kind: str):
    """OpenSlide refuses a tile whose decoder as much as warns; whatever it makes of this one is what is shown."""
    source = opened(slide)
    tiles = find_jpeg_tiles(slide, source.levels)[0]
    number = 9
    column, row = number % tiles.columns, number // tiles.columns
    whole = slide.read_bytes()
    start, count = tiles.offsets[number], tiles.counts[number]
    generator = np.random.default_rng(3)
    outcomes = set()
    for _ in range(30):
        data = bytearray(whole)
        at = start + int(generator.integers(30, count - 30))
        length = min(60, start + count - at)
        data[at : at + length] = bytes(length) if kind == "zeros" else bytes(b ^ 0x5A for b in data[at : at + length])
        slide.write_bytes(data)
        box = column * TILE, row * TILE, TILE, TILE
        fresh = opened(slide)
        fresh.read(0, 0, 0, 1, 1)
        try:
            expected = np.asarray(fresh._shown(0, *box))
        except SlideError:
            with pytest.raises(SlideError, match=r"a\.tif is damaged"):
                fresh.read(0, *box)
            outcomes.add("refused")
        else:
            np.testing.assert_array_equal(np.asarray(fresh.read(0, *box)), expected)
            outcomes.add("shown")
        fresh.close()
    assert "refused" in outcomes


def test_planes_of_one_size_are_not_taken_for_one_another(opened, tmp_path: Path):
    first = texture(700, 500, 1)
    second = first.copy()
    second[300:304, 200:260] = 255 - second[300:304, 200:260]
    source = opened(write_jpeg_slide(tmp_path / "z.tif", [first, second]))
    assert find_jpeg_tiles(tmp_path / "z.tif", source.levels) == {}


def test_deflate_tiles_and_other_makers_are_left_to_openslide(opened, position_slide: Path):
    try:
        source = opened(position_slide)
    except openslide.OpenSlideUnsupportedFormatError:
        return
    assert source._direct is not None
    assert find_jpeg_tiles(position_slide, source.levels) == {}
    assert source._direct.read(0, 0, 0, 9, 9) is None


def test_only_formats_of_tiles_side_by_side_are_read_directly(opened, slide: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openslide_source, "_OF_PLAIN_TILES", frozenset({"aperio"}))
    assert opened(slide)._direct is None  # generic-tiff


def test_many_threads_read_the_same(opened, slide: Path):
    source = opened(slide)
    whole = np.asarray(source.read(0, 0, 0, WIDTH, HEIGHT))
    boxes = [(x, y, 70, 50) for y in range(0, 320, 23) for x in range(0, 430, 31)]
    with ThreadPoolExecutor(6) as pool:
        for (x, y, width, height), seen in zip(boxes, pool.map(lambda box: source.read(0, *box), boxes), strict=True):
            np.testing.assert_array_equal(np.asarray(seen), whole[y : y + height, x : x + width])


def test_what_is_kept_of_tiles_is_bounded(opened, slide: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(direct_reader, "_CACHE_BYTES", 5 * TILE * TILE * 3)
    source = opened(slide)
    for x in range(0, WIDTH - 40, 17):
        source.read(0, x, 30, 40, 40)
        assert source._direct is not None
        assert len(source._direct._cache) <= 5
    assert source._direct is not None
    assert source._direct._cache


def test_a_closed_slide_says_so(opened, slide: Path):
    source = opened(slide)
    source.read(0, 0, 0, 9, 9)
    source.close()
    with pytest.raises(SlideError, match=r"a\.tif was closed"):
        source.read(0, 70, 70, 9, 9)
