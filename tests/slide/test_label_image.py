"""Label images: nearest values at any scale and place, from tiles or in one piece; what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lpd.errors import SlideError
from lpd.slide.label_image import LabelImage, label_image_of
from lpd.slide.region import Region

WIDTH, HEIGHT = 150, 100
SCALE = 4


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 5, (HEIGHT, WIDTH)).astype(np.uint8)


@pytest.fixture(params=["tiled.tif", "tiled-deflated.tif", "strips.tif", "whole.png"])
def path(request: pytest.FixtureRequest, tmp_path: Path, labels: np.ndarray) -> Path:
    target = tmp_path / str(request.param)
    if target.suffix == ".png":
        Image.fromarray(labels).save(target)
    elif "strips" in target.name:
        tifffile.imwrite(target, labels)
    else:
        compression = "adobe_deflate" if "deflated" in target.name else None
        tifffile.imwrite(target, labels, tile=(32, 64), compression=compression)
    return target


@pytest.mark.parametrize(
    ("region", "size"),
    [
        (Region(0, 0, WIDTH * SCALE, HEIGHT * SCALE), (WIDTH, HEIGHT)),
        (Region(0, 0, WIDTH * SCALE, HEIGHT * SCALE), (37, 25)),
        (Region(120, 88, 64, 64), (64, 64)),
        (Region(400, 300, 512, 256), (128, 64)),  # beyond the right and lower edge
        (Region(-64, -32, 128, 64), (32, 16)),
    ],
)
def test_values_are_those_under_the_middle_of_each_pixel(
    path: Path, labels: np.ndarray, region: Region, size: tuple[int, int]
) -> None:
    with LabelImage(path, WIDTH * SCALE, HEIGHT * SCALE) as image:
        found = image.read(region, size)
    for row in range(size[1]):
        for column in range(size[0]):
            x = region.x_l0 + (column + 0.5) * region.width_l0 / size[0]
            y = region.y_l0 + (row + 0.5) * region.height_l0 / size[1]
            inside = 0 <= x < WIDTH * SCALE and 0 <= y < HEIGHT * SCALE
            if inside:
                assert found[row, column] == labels[int(y // SCALE), int(x // SCALE)]
            elif not (-3 < x < WIDTH * SCALE + 3 and -3 < y < HEIGHT * SCALE + 3):
                assert found[row, column] == 255


def test_a_picture_of_another_shape_is_refused(path: Path) -> None:
    with pytest.raises(SlideError, match=r"150 × 100 px, which is not the shape of the slide, 600 × 600 px"):
        LabelImage(path, 600, 600)


def test_colour_pictures_and_torn_files_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (15, 10)).save(tmp_path / "colour.png")
    with pytest.raises(SlideError, match=r"colour.png cannot be read as a mask \(its pixels are RGB"):
        LabelImage(tmp_path / "colour.png", 15, 10)
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((10, 15), np.uint16))
    with pytest.raises(SlideError, match="uint16"):
        LabelImage(tmp_path / "deep.tif", 15, 10)
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    with pytest.raises(SlideError, match=r"torn\.tif"):
        LabelImage(tmp_path / "torn.tif", 15, 10)


def test_it_lies_beside_its_slide(tmp_path: Path) -> None:
    slide = tmp_path / "a.b.svs"
    assert label_image_of(slide) is None
    (tmp_path / "a.b.mask.png").touch()
    assert label_image_of(slide) == tmp_path / "a.b.mask.png"
