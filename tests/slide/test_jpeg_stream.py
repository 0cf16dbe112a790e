"""A slide's own JPEG tiles are handed out as they are where a viewer then shows what OpenSlide shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from lpd.errors import SlideError
from lpd.slide.jpeg_stream import is_sound, stand_alone
from lpd.slide.jpeg_tiles import find_jpeg_tiles
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
from lpd.slide.slide import Slide

from .jpeg_slide import TILE, texture, write_jpeg_slide

WIDTH, HEIGHT = 64 * 16 + 7, 64 * 8 + 3
COMMENT = b"\xff\xfe\x00\x0ecase 4711 xy"
EXIF_TURNED = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
PROFILE = b"\xff\xe2\x00\x10ICC_PROFILE\0\x01\x01"


@pytest.fixture(params=[False, True], ids=["ycbcr", "rgb"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    full = texture(WIDTH, HEIGHT)
    quarter = np.asarray(Image.fromarray(full).resize((WIDTH // 4, HEIGHT // 4)))
    return write_jpeg_slide(tmp_path / "a.tif", [full, quarter], rgb=request.param)


def shown(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def encoded(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(texture(TILE, TILE)).save(out, "JPEG", **options)
    return out.getvalue()


def test_whole_tiles_of_the_file_s_levels_show_what_openslide_shows(path: Path) -> None:
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        handed_out = 0
        for level, step in ((0, 1), (1, 4)):
            width, height = reference.level_dimensions[level]
            whole = np.asarray(reference.read_region((0, 0), level, (width, height)).convert("RGB"))
            for y in range(0, height - TILE + 1, TILE):
                for x in range(0, width - TILE + 1, TILE):
                    region = Region(x * step, y * step, TILE * step, TILE * step)
                    picture = slide.stored_jpeg(region, (TILE, TILE))
                    assert picture is not None
                    np.testing.assert_array_equal(shown(picture), whole[y : y + TILE, x : x + TILE])
                    handed_out += 1
        assert handed_out == 16 * 8 + 4 * 2


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((1, 0, TILE, TILE), (TILE, TILE)),  # off the grid
        ((0, 0, 2 * TILE, 2 * TILE), (TILE, TILE)),  # between two levels
        ((0, 0, 2 * TILE, TILE), (2 * TILE, TILE)),
        ((16 * TILE, 0, TILE, TILE), (TILE, TILE)),  # past the right edge
        ((16 * TILE, 0, 7, TILE), (7, TILE)),  # the part of that tile that is slide
        ((-TILE, 0, TILE, TILE), (TILE, TILE)),
    ],
)
def test_what_is_no_tile_is_not_handed_out(path: Path, box: tuple[int, ...], size: tuple[int, int]) -> None:
    with open_slide(path) as slide:
        assert slide.stored_jpeg(Region(*box), size) is None


def test_nothing_is_handed_out_where_colours_change_or_openslide_shows_others(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = Region(0, 0, TILE, TILE), (TILE, TILE)
    with open_slide(path) as slide:
        assert slide.stored_jpeg(*tile)
        slide._to_srgb = lambda image: image
        assert slide.stored_jpeg(*tile) is None
    monkeypatch.setattr("lpd.slide.jpeg_tiles._IS_RGB", b"")  # handed out as if it were YCbCr
    rgb = write_jpeg_slide(tmp_path / "rgb.tif", [texture(WIDTH, HEIGHT)], rgb=True)
    with open_slide(rgb) as slide:
        assert slide.stored_jpeg(*tile) is None


def test_a_damaged_tile_is_not_handed_out(path: Path) -> None:
    def tile(slide: Slide) -> bytes | None:
        return slide.stored_jpeg(Region(4 * TILE, 4 * TILE, TILE, TILE), (TILE, TILE))

    with open_slide(path) as slide:
        tiles = find_jpeg_tiles(path, slide._source.levels)[0]
        assert tile(slide)
    number = 4 * tiles.columns + 4
    data = bytearray(path.read_bytes())
    middle = tiles.offsets[number] + tiles.counts[number] // 2
    data[middle : middle + 20] = bytes(b"\xff\x00" * 10)  # no Huffman code is all ones
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.stored_jpeg(Region(0, 0, TILE, TILE), (TILE, TILE))
        assert tile(slide) is None
        with pytest.raises(SlideError, match="damaged"):
            slide.read(Region(4 * TILE, 4 * TILE, TILE, TILE), (TILE, TILE))


def test_slides_without_such_tiles_hand_out_nothing(position_slide: Path) -> None:
    with open_slide(position_slide) as slide:
        assert slide.stored_jpeg(Region(0, 0, TILE, TILE), (TILE, TILE)) is None


def test_a_closed_slide_says_so(path: Path) -> None:
    slide = open_slide(path)
    slide.stored_jpeg(Region(0, 0, TILE, TILE), (TILE, TILE))
    slide.close()
    with pytest.raises(SlideError, match="was closed"):
        slide.stored_jpeg(Region(0, 0, TILE, TILE), (TILE, TILE))


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_nothing_but_the_picture_stays(rgb: bool, progressive: bool) -> None:
    whole = encoded(keep_rgb=rgb, progressive=progressive, icc_profile=b"x" * 200)
    laden = whole[:2] + COMMENT + EXIF_TURNED + PROFILE + whole[2:] + bytes(9)
    bare = stand_alone(laden, TILE, TILE)
    assert bare is not None
    for trace in (b"4711", b"Exif", b"ICC_PROFILE"):
        assert trace in laden
        assert trace not in bare
    np.testing.assert_array_equal(shown(bare), shown(whole))
    assert Image.open(io.BytesIO(bare)).getexif() == {}
    assert bare.endswith(b"\xff\xd9")
    assert is_sound(bare)


def test_pictures_that_a_browser_may_not_show_are_refused() -> None:
    whole = encoded()
    frame = whole.index(b"\xff\xc0")
    arithmetic = whole[:frame] + b"\xff\xc9" + whole[frame + 2 :]
    twelve_bits = whole[: frame + 4] + b"\x0c" + whole[frame + 5 :]
    grey = io.BytesIO()
    Image.new("L", (TILE, TILE)).save(grey, "JPEG")
    assert stand_alone(whole, TILE, TILE) == whole
    for other in (arithmetic, twelve_bits, grey.getvalue(), whole[:-2], whole[:300], whole[:2], b"", b"\xff\xd8\xff"):
        assert stand_alone(other, TILE, TILE) is None
    assert stand_alone(whole, TILE, TILE + 1) is None


def test_random_bytes_never_do_more_than_be_refused() -> None:
    whole, generator = encoded(), np.random.default_rng(5)
    for _ in range(300):
        data = bytearray(whole)
        for at in generator.integers(0, len(data), 4):
            data[at] = generator.integers(256)
        picture = stand_alone(bytes(data), TILE, TILE)
        if picture is not None and is_sound(picture):
            assert shown(picture).shape == (TILE, TILE, 3)
