"""Opening: what is a slide, what is refused and with which words, fingerprints, kinds of pixels, colour."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lpd.errors import SlideError
from lpd.slide.endings import is_slide_path
from lpd.slide.opening import open_slide
from lpd.slide.region import Region

from .conftest import ramp, write_pyramid


def _truncated(path: Path) -> None:
    write_pyramid(path, [np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)])
    path.write_bytes(path.read_bytes()[:3000])


def _truncated_jpeg(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.svs": (lambda path: None, "does not exist"),
    "folder.svs": (Path.mkdir, "is a folder"),
    "empty.svs": (Path.touch, "is empty"),
    "text.svs": (lambda path: path.write_text("dear slide"), "neither a slide"),
    "header-only.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "damaged"),
    "header-only.tif": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "damaged"),
    "noise.tif": (lambda path: path.write_bytes(b"II*\0" + np.random.default_rng(0).bytes(5000)), "damaged|neither"),
    "picture.svs": (lambda path: Image.new("RGB", (9, 9)).save(path, "GIF"), "neither a slide"),
    "cut.tif": (_truncated, "damaged"),
    "cut.jpg": (_truncated_jpeg, "damaged"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning", "ignore:Possibly corrupt:UserWarning")
@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    make(tmp_path / name)
    with pytest.raises(SlideError, match=words) as caught, open_slide(tmp_path / name) as slide:
        slide.read(slide.region, (16, 16))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_place_does_not_spoil_the_rest(tmp_path: Path) -> None:
    path = write_pyramid(
        tmp_path / "hole.tif", [np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)]
    )
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + 2000] = b"\xaa" * 2000
    path.write_bytes(data)
    with open_slide(path) as slide:
        before = slide.read(Region(0, 0, 64, 64), (64, 64))
        for _ in range(3):
            with pytest.raises(SlideError, match=r"hole\.tif is damaged"):
                slide.read(Region(64, 64, 64, 64), (64, 64))
        np.testing.assert_array_equal(slide.read(Region(0, 0, 64, 64), (64, 64)), before)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(ramp(30, 20)).save(tmp_path / "really-a-png.svs", "PNG")
    with open_slide(tmp_path / "really-a-png.svs") as slide:
        assert (slide.vendor, slide.name, slide.width_l0, slide.height_l0) == ("plain image", "really-a-png", 30, 20)


@pytest.mark.parametrize("name", ["a.svs", "A.SVS", "b.Tiff", "c.png", "d.jpeg", "e.ndpi", "f.mrxs"])
def test_slide_names(name: str) -> None:
    assert is_slide_path(Path("somewhere") / name)


@pytest.mark.parametrize("name", ["a.txt", "svs", "b.svs.part", "c.zarr", "d"])
def test_other_names(name: str) -> None:
    assert not is_slide_path(Path(name))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes in folders")
    os.mkfifo(tmp_path / "pipe.tif")
    for path in (tmp_path / "pipe.tif", Path("/dev/zero")):
        with pytest.raises(SlideError, match=f"{path.name} is a pipe or device, not a file"):
            open_slide(path)


def test_names_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    try:
        Image.fromarray(ramp(30, 20)).save(path, "PNG")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(SlideError, match=r"not UTF-8 text.*rename it") as caught:
        open_slide(path)
    str(caught.value).encode()
    (tmp_path / "link.png").symlink_to(path)
    with pytest.raises(SlideError, match=r"link\.png has a name that is not UTF-8"):
        open_slide(tmp_path / "link.png")


@pytest.mark.parametrize("name", ["a" * 252 + ".png", "nul\0.png"])
def test_names_that_no_file_can_have_are_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlideError, match="cannot be read"):
        open_slide(tmp_path / name)


def test_an_unknown_compression_is_not_a_bare_number(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "jp2k.svs", ramp(128, 128), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "jp2k.svs", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(33005)
    with pytest.raises(SlideError, match=r"jp2k\.svs is damaged or of an unusual kind: copy or export it again"):
        open_slide(tmp_path / "jp2k.svs").read(Region(0, 0, 9, 9), (9, 9))


def test_fingerprint_follows_the_file(tmp_path: Path) -> None:
    def fingerprint() -> str:
        with open_slide(path) as slide:
            return slide.fingerprint

    path = tmp_path / "f.png"
    Image.fromarray(ramp(30, 20)).save(path)
    first = fingerprint()
    code = "import sys; from lpd.slide.opening import open_slide; print(open_slide(sys.argv[1]).fingerprint)"
    elsewhere = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == first
    os.utime(path, ns=(1, 1))
    path = path.rename(tmp_path / "g.png")
    assert fingerprint() == first
    with path.open("ab") as file:
        file.write(b"\0")
    assert fingerprint() != first


@pytest.mark.parametrize("rows", [50, 700])
def test_fingerprint_sees_pixels_anywhere(tmp_path: Path, rows: int) -> None:
    """Two flat files of one size with the same white rim: what differs is the middle."""
    pixels = np.full((rows, 600, 3), 255, np.uint8)
    found = set()
    for grey in (255, 90):
        pixels[rows // 5 : -rows // 5] = grey
        tifffile.imwrite(tmp_path / "flat.tif", pixels, photometric="rgb")
        with open_slide(tmp_path / "flat.tif") as slide:
            found.add(slide.fingerprint)
    assert len(found) == 2


def _saved(path: Path, mode: str) -> np.ndarray:
    """Write an image whose left half is pure red (or 40 % grey) and right half white; the expected RGB."""
    grey = mode in ("L", "1", "I;16", "LA")
    rgb = np.full((40, 60, 3), 255, np.uint8)
    rgb[:, :30] = (0, 0, 0) if mode == "1" else (102, 102, 102) if grey else (255, 0, 0)
    if mode == "I;16":
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(path)
    elif mode == "RGB16":
        tifffile.imwrite(path, rgb.astype(np.uint16) * 257, photometric="rgb")
    else:
        image = Image.fromarray(rgb).convert(mode)
        if "A" in mode:  # the right half is transparent black instead of white
            values = np.asarray(image).copy()
            values[:, 30:] = 0
            image = Image.fromarray(values, mode)
        image.save(path)
    return rgb


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *[("a.png", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")],
        *[("a.tif", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16", "RGB16", "CMYK")],
    ],
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, name: str, mode: str) -> None:
    rgb = _saved(tmp_path / name, mode)
    with open_slide(tmp_path / name) as slide:
        np.testing.assert_array_equal(slide.read(slide.region, (60, 40)), rgb)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((9, 9), np.float32))
    with pytest.raises(SlideError, match="floating-point"), open_slide(tmp_path / "f.tif") as slide:
        slide.read(slide.region, (9, 9))


def test_first_page_is_shown(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        writer.write(np.full((20, 20, 3), 10, np.uint8), photometric="rgb")
        writer.write(np.full((30, 30, 3), 200, np.uint8), photometric="rgb")
    with open_slide(tmp_path / "pages.tif") as slide:
        assert (slide.read(slide.region, (20, 20)) == 10).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_orientation_tag_is_honoured(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"o.{ending}"
    pixels = np.full((32, 64, 3), 255, np.uint8)
    pixels[:16, :32] = (200, 0, 0)  # the stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    # EXIF 2.3, 4.6.4 A: where the stored first row and first column are seen.
    top = orientation in (1, 2, 5, 6)
    left = orientation in (1, 4, 5, 8)
    with open_slide(path) as slide:
        assert (slide.width_l0, slide.height_l0) == ((64, 32) if orientation < 5 else (32, 64))
        seen = slide.read(slide.region, (2, 2))[..., 1] < 60
    assert np.argwhere(seen).tolist() == [[0 if top else 1, 0 if left else 1]]


def test_too_large_a_flat_image_names_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.fromarray(ramp(30, 20)).save(tmp_path / "huge.png")
    monkeypatch.setattr("lpd.slide.plain_source.MAX_PX", 599)
    with pytest.raises(SlideError, match=r"30 × 20 px.*vips tiffsave huge\.png huge-pyramid\.tif"):
        open_slide(tmp_path / "huge.png")


def test_icc_profile_is_applied(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")  # its red is our green
    red = np.zeros((128, 128, 3), np.uint8)
    red[..., 0] = 255
    for name, profile, seen in (
        ("same", srgb, [255, 0, 0]),
        ("swapped", swapped, [0, 255, 0]),
        ("bad", b"?", [255, 0, 0]),
    ):
        Image.fromarray(red).save(tmp_path / f"{name}.png", icc_profile=profile)
        write_pyramid(tmp_path / f"{name}.tif", [red], iccprofile=profile)
        for path in (tmp_path / f"{name}.png", tmp_path / f"{name}.tif"):
            with open_slide(path) as slide, open_slide(path, icc=False) as as_stored:
                pixels = slide.read(Region(0, 0, 256, 128), (64, 32)).astype(int)
                assert np.abs(pixels[0, 0] - seen).max() <= 1
                assert pixels[0, -1].tolist() == [255, 255, 255]  # white outside, whatever the profile
                assert as_stored.read(slide.region, (1, 1))[0, 0].tolist() == [255, 0, 0]


def test_pure_red_is_channel_0(tmp_path: Path) -> None:
    red = np.zeros((128, 128, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "r.png")
    for path in (tmp_path / "r.png", write_pyramid(tmp_path / "r.tif", [red])):
        with open_slide(path) as slide:
            assert slide.read(slide.region, (1, 1))[0, 0].tolist() == [255, 0, 0]
            assert slide.thumbnail(50)[25, 25].tolist() == [255, 0, 0]


def test_real_aperio(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.vendor, slide.width_l0, slide.height_l0) == ("aperio", 2220, 2967)
        assert slide.mpp is not None
        assert (slide.mpp.value, slide.mpp.origin) == (0.499, "slide properties")
        shapes = {name: picture.shape for name, picture in slide.associated().items()}
        assert shapes == {"label": (463, 387, 3), "macro": (431, 1280, 3), "thumbnail": (768, 574, 3)}
        theirs = slide.associated()["thumbnail"].astype(float)
        ours = slide.read(slide.region, (574, 768)).astype(float)
        assert np.abs(ours - theirs).mean() < 6  # the scanner's own thumbnail, JPEG, made another way


def test_real_jpeg2000_without_resolution(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs") as slide:
        assert slide.mpp is None
        assert slide.downsamples == (1.0, 2.0)
        theirs = slide.associated()["thumbnail"].astype(float)
        assert np.abs(slide.read(slide.region, (956, 768)) - theirs).mean() < 6


def test_real_flat_tiff(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "not-a-slide-flat.tif") as slide, Image.open(slide.path) as image:
        assert slide.vendor == "plain image"
        assert slide.mpp is None
        assert slide.associated() == {}
        np.testing.assert_array_equal(slide.read(slide.region, (1493, 901)), np.asarray(image.convert("RGB")))
