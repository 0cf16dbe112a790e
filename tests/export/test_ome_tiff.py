"""The mask as OME-TIFF: values, pyramid, palette, scale and names, with and without imagecodecs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile

from lpd.classes import BCSS
from lpd.errors import ResultError
from lpd.export.ome_tiff import write_ome_tiff

from .conftest import HandMade, HandMadeMeta, blobs

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    return blobs(2300, 3100, 3, 50)


@pytest.fixture(scope="module")
def path(mask: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ome") / "mask.ome.tif"
    store = HandMade(mask)
    write_ome_tiff(store, path)
    assert store.largest <= 512**2, "read tile by tile"
    return path


def test_every_level_holds_true_labels(path: Path, mask: np.ndarray) -> None:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert len(tiff.series) == 1
        levels = tiff.series[0].levels
        assert len(levels) == 4
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(level.asarray(), mask[:: 2**number, :: 2**number])
            page = level.pages[0]
            assert page.is_tiled
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert page.photometric == tifffile.PHOTOMETRIC.PALETTE


def test_palette_shows_the_classes_colours(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        colors = tiff.pages[0].colormap >> 8
    np.testing.assert_array_equal(colors[:, :5].T, BCSS.palette())
    assert colors[:, 255].tolist() == [128, 128, 128]


def test_ome_says_scale_and_names(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        document = ElementTree.fromstring(tiff.ome_metadata)
    pixels = document.find(f"{OME}Image/{OME}Pixels")
    assert pixels is not None
    assert pixels.get("Type") == "uint8"
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("1.0", "µm")
    assert (pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit")) == ("1.0", "µm")
    names = {entry.get("K"): entry.text for entry in document.iter(f"{OME}M")}
    assert names == {
        "0": "Tumour",
        "1": "Stroma",
        "2": "Lymphocytes",
        "3": "Necrosis",
        "4": "background",
        "255": "not computed",
    }
    assert "for tests only" in (document.findtext(f"{OME}Image/{OME}Description") or "")


def test_openslide_shows_it(path: Path, mask: np.ndarray) -> None:
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (3100, 2300)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(1.0)
        seen = np.asarray(slide.read_region((500, 700), 0, (90, 80)).convert("RGB"))
    part = mask[700:780, 500:590]
    known = part != 255
    np.testing.assert_array_equal(seen[known], BCSS.palette()[part[known]])


def test_imagecodecs_is_not_needed(path: Path) -> None:
    code = f"import sys; sys.modules['imagecodecs'] = None; import tifffile;print(tifffile.imread({str(path)!r}).sum())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == tifffile.imread(path).sum()


def test_writing_does_not_need_imagecodecs(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(
        "import sys, pathlib\n"
        "sys.modules['imagecodecs'] = None\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.export.conftest import HandMade, blobs\n"
        "from lpd.export.ome_tiff import write_ome_tiff\n"
        f"write_ome_tiff(HandMade(blobs(700, 900, 1, 9)), pathlib.Path({str(tmp_path / 'm.ome.tif')!r}))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.ome.tif"), blobs(700, 900, 1, 9))


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (513, 7), (5, 3000)])
def test_edges(tmp_path: Path, shape: tuple[int, int]) -> None:
    mask = blobs(*shape, 1, 2)
    write_ome_tiff(HandMade(mask, HandMadeMeta(9999, 9999, mask_mpp=0.25)), tmp_path / "m.ome.tif")
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as tiff:
        for number, level in enumerate(tiff.series[0].levels):
            np.testing.assert_array_equal(level.asarray(), mask[:: 2**number, :: 2**number])


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"m\.ome\.tif"):
        write_ome_tiff(HandMade(blobs(9, 9, 1)), tmp_path / "file" / "m.ome.tif")
    store = HandMade(blobs(900, 900, 1))
    store.read_mask_px = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]  # a store that breaks midway
    with pytest.raises(ZeroDivisionError):
        write_ome_tiff(store, tmp_path / "m.ome.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
