"""The phantom slide: what OpenSlide says of it, pyramid and mask alignment, and what writing it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from lpd.classes import BCSS
from lpd.cli import main
from lpd.data.phantom import mask_path, write_phantom_slide
from lpd.data.phantom.layout import kinds_to_mask
from lpd.data.phantom.tissue import Case, case_seed
from lpd.errors import ConfigError, SlideError

WIDTH, HEIGHT, SEED = 2305, 1650, 4  # neither a multiple of a tile nor of a block


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "slide.tif"
    write_phantom_slide(path, WIDTH, HEIGHT, SEED, workers=2)
    return path


def read(slide: openslide.OpenSlide, x: int, y: int, level: int, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(slide.read_region((x, y), level, size).convert("RGB")).astype(int)


def test_openslide_reads_it_as_promised(path: Path) -> None:
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert float(slide.properties["openslide.mpp-y"]) == 0.5
        assert slide.properties["openslide.objective-power"] == "20"
        assert slide.level_dimensions == ((2305, 1650), (576, 412), (144, 103))
        assert "synthetic phantom" in slide.properties["tiff.ImageDescription"]
        assert set(slide.associated_images) == {"label", "thumbnail"}
        label = np.asarray(slide.associated_images["label"].convert("L"))
        assert 0.01 < (label < 100).mean() < 0.2, "the label bears writing"


def test_pixels_are_those_of_the_case(path: Path) -> None:
    case = Case.make(case_seed("slide", SEED), (WIDTH, HEIGHT))
    x, y = 1000, 700
    truth, _ = case.draw(x, y, 320, 256)
    with openslide.OpenSlide(path) as slide:
        off = {step: np.abs(read(slide, x + step, y, 0, (320, 256)) - truth).mean() for step in (-1, 0, 1, 8)}
    assert off[0] < 4  # what JPEG costs
    assert off[0] < min(off[-1], off[1])
    assert off[8] > 2.5 * off[0]


def test_levels_show_the_same(path: Path) -> None:
    with openslide.OpenSlide(path) as slide:
        for level, factor in ((1, 4), (2, 16)):
            full = read(slide, 0, 0, 0, (2304, 1648)).reshape(1648 // factor, factor, 2304 // factor, factor, 3)
            small = read(slide, 0, 0, level, (2304 // factor, 1648 // factor))
            off = {step: np.abs(np.roll(full.mean((1, 3)), step, 1) - small).mean() for step in (-1, 0, 1)}
            assert off[0] < 5  # what JPEG costs
            assert off[0] < 0.5 * min(off[-1], off[1])


def test_mask_is_the_truth_in_the_slides_frame(path: Path) -> None:
    with tifffile.TiffFile(mask_path(path)) as tiff:
        mask = tiff.asarray()
        said = json.loads(tiff.pages[0].description)
        assert tiff.pages[0].is_tiled
    assert said["downsample"] == 4
    assert mask.shape == (-(-HEIGHT // 4), -(-WIDTH // 4))
    case = Case.make(case_seed("slide", SEED), (WIDTH, HEIGHT))
    for x, y in ((800, 600), (1400, 1020)):
        kinds = case.layout.kinds(x, y, 400, 400)
        np.testing.assert_array_equal(mask[y // 4 :][:100, x // 4 :][:, :100], kinds_to_mask(kinds)[2::4, 2::4])
    assert set(np.unique(mask)) == set(range(BCSS.count + 1))


def test_mask_glass_is_where_the_slide_is_bright(path: Path) -> None:
    mask = tifffile.imread(mask_path(path))[:412, :576]
    with openslide.OpenSlide(path) as slide:
        bright = read(slide, 0, 0, 1, (576, 412)).min(-1) > 215
    aligned = (bright == (mask == BCSS.background)).mean()
    shifted = (np.roll(bright, 6, 1) == (mask == BCSS.background)).mean()
    assert aligned > 0.9
    assert aligned > shifted


def test_workers_do_not_matter(path: Path, tmp_path: Path) -> None:
    write_phantom_slide(tmp_path / "slide.tif", WIDTH, HEIGHT, SEED, workers=1)
    assert (tmp_path / "slide.tif").read_bytes() == path.read_bytes()
    assert mask_path(tmp_path / "slide.tif").read_bytes() == mask_path(path).read_bytes()


_WRITE_AND_WEIGH = """
import resource, sys, pathlib
sys.modules["imagecodecs"] = None
import functools
from lpd.data.phantom import tissue
from lpd.data.phantom.slide import write_phantom_slide
tissue.make_textures = functools.cache(tissue.make_textures)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for name, width in (("small", 1024), ("large", 7168)):
    write_phantom_slide(pathlib.Path(sys.argv[1]) / f"{name}.tif", width, 2048, 1, workers=1)
    print(peak())
import tifffile
assert tifffile.imread(pathlib.Path(sys.argv[1]) / "large.mask.tif").shape == (512, 1792)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures with the resource module")
def test_memory_is_bounded_and_imagecodecs_is_not_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_AND_WEIGH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    small, large = map(float, done.stdout.split())
    raw_mb = (7168 - 1024) * 2048 * 3 / 2**20
    assert large - small < raw_mb / 3
    with openslide.OpenSlide(tmp_path / "large.tif") as slide:
        assert slide.dimensions == (7168, 2048)
        slide.read_region((6000, 1000), 0, (64, 64))


def test_existing_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    mask_path(path).write_bytes(b"mine")
    with pytest.raises(SlideError, match=r"slide\.mask\.tif exists already.*--force"):
        write_phantom_slide(path, 1024, 1024, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["slide.mask.tif"]


@pytest.mark.parametrize(
    ("name", "width", "height", "seed", "message"),
    [
        ("a.png", 1024, 1024, 1, r"a\.png"),
        ("a.tif", 10, 1024, 1, "10 x 1024"),
        ("a.tif", 1024, 500_000, 1, "500000"),
        ("a.tif", 1024, 1024, -1, "seed -1"),
    ],
)
def test_bad_requests_are_named(tmp_path: Path, name: str, width: int, height: int, seed: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_phantom_slide(tmp_path / name, width, height, seed)


@pytest.mark.parametrize("workers", [0, -3, 257])
def test_a_number_of_workers_out_of_range_is_named(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"{workers} workers: 1 to 256"):
        write_phantom_slide(tmp_path / "a.tif", 1024, 1024, 1, workers=workers)


@pytest.mark.parametrize("name", ["file/a.tif", "a" * 252 + ".tif"])
@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str, force: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SlideError, match=r"cannot write .*choose another folder"):
        write_phantom_slide(tmp_path / name, 1024, 1024, 1, force=force)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide, tiles = tmp_path / "new" / "demo.tif", tmp_path / "tiles"
    assert main(["phantom", "slide", str(slide), "--size", "1024", "700", "--seed", str(SEED)]) == 0
    assert f"wrote {slide} (1024 x 700 px, synthetic)" in capsys.readouterr().out
    assert main(["phantom", "slide", str(slide), "--size", "1024", "700"]) == 1
    assert "--force" in capsys.readouterr().err
    counts = ["--train", "2", "--valid", "0", "--test", "0"]
    assert main(["phantom", "tiles", str(tiles), *counts, "--tile-px", "64", "--seed", "3"]) == 0
    assert len(list((tiles / "train").iterdir())) == 2
