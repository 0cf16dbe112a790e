"""Resolution: given, slide properties, TIFF tags, objective power, none, in this order; nonsense is passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lpd.errors import ConfigError, MissingMppError
from lpd.slide.opening import open_slide
from lpd.slide.resolution import Resolution, slide_resolution

from .conftest import ramp, write_pyramid

MPP = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
TAGS = {"tiff.XResolution": "20000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"}
POWER = {"openslide.objective-power": "40"}


@pytest.mark.parametrize(
    ("properties", "value", "origin"),
    [
        ({**MPP, **TAGS, **POWER}, 0.25, "slide properties"),
        ({**TAGS, **POWER}, 0.5, "TIFF resolution"),
        (POWER, 0.25, "objective power"),
        ({"openslide.objective-power": "20"}, 0.5, "objective power"),
        ({"openslide.mpp-x": "0.24", "openslide.mpp-y": "0.26"}, 0.25, "slide properties"),
        ({"openslide.mpp-x": "0.25"}, 0.25, "slide properties"),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "2.5", **TAGS}, 0.5, "TIFF resolution"),
        ({"openslide.mpp-x": "0", "openslide.mpp-y": "0", **POWER}, 0.25, "objective power"),
        ({"openslide.mpp-x": "1000", "openslide.mpp-y": "1000", **TAGS}, 0.5, "TIFF resolution"),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "x", **TAGS}, 0.5, "TIFF resolution"),
        # OpenSlide calls a generic TIFF's tag its mpp: 72 dpi must not become 352.8 µm/px.
        ({"openslide.vendor": "generic-tiff", **MPP, **TAGS}, 0.5, "TIFF resolution"),
        (
            {"tiff.XResolution": "50800", "tiff.YResolution": "50800", "tiff.ResolutionUnit": "inch"},
            0.5,
            "TIFF resolution",
        ),
    ],
)
def test_fallback_order(properties: dict[str, str], value: float, origin: str) -> None:
    found = slide_resolution(properties)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.origin == origin


@pytest.mark.parametrize("dpi", ["72", "96", "300", "600", "0", "1"])
def test_print_resolutions_are_ignored(dpi: str) -> None:
    tags = {"tiff.XResolution": dpi, "tiff.YResolution": dpi, "tiff.ResolutionUnit": "inch"}
    assert slide_resolution(tags) is None
    assert slide_resolution({**tags, **POWER}) == Resolution(0.25, "objective power")


@pytest.mark.parametrize(
    "properties", [{}, {**TAGS, "tiff.ResolutionUnit": "none"}, {"openslide.objective-power": "0"}]
)
def test_nothing_known(properties: dict[str, str]) -> None:
    assert slide_resolution(properties) is None


def test_tiled_tiff_tags_are_read(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "t.tif", [ramp(128, 128)], resolution=(40000, 40000), resolutionunit="CENTIMETER")
    with open_slide(path) as slide:
        assert slide.vendor == "generic-tiff"
        assert slide.mpp == Resolution(0.25, "TIFF resolution")
        assert slide.require_mpp() == 0.25


def test_plain_images_have_tags_too(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(8, 8), resolution=(25400, 25400), resolutionunit="INCH")
    Image.fromarray(ramp(8, 8)).save(tmp_path / "b.png", dpi=(25400, 25400))
    Image.fromarray(ramp(8, 8)).save(tmp_path / "c.jpg", dpi=(300, 300))
    with open_slide(tmp_path / "a.tif") as a, open_slide(tmp_path / "b.png") as b, open_slide(tmp_path / "c.jpg") as c:
        assert a.mpp == Resolution(1.0, "TIFF resolution")
        assert b.mpp is not None
        assert b.mpp.value == pytest.approx(1.0, rel=1e-4)
        assert b.mpp.origin == "image resolution"
        assert c.mpp is None


def test_given_outranks_the_file(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "t.tif", [ramp(128, 128)], resolution=(40000, 40000), resolutionunit="CENTIMETER")
    with open_slide(path, mpp=0.3) as slide:
        assert slide.mpp == Resolution(0.3, "given")


@pytest.mark.parametrize("mpp", [0, -1, 0.009, 101, float("nan")])
def test_impossible_given_is_refused(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(ConfigError, match="mpp"):
        open_slide(tmp_path / "never-opened.tif", mpp=mpp)


def test_missing_says_the_cure(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "x.png")
    with open_slide(tmp_path / "x.png") as slide, pytest.raises(MissingMppError, match=r"x\.png .* --mpp .* 0\.5"):
        slide.require_mpp()
