"""Chunks read from their files are what zarr reads."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from lpd.inference.chunk_files import ChunkFiles
from lpd.inference.pyramid import FORMAT_2, Pyramid, create_arrays


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    zarr.open_group(str(tmp_path), mode="w", **FORMAT_2)
    create_arrays(tmp_path, (2, 1100, 700))
    pyramid = Pyramid(tmp_path)
    values = np.random.default_rng(0).integers(0, 9, (2, 600, 650), np.uint8)
    pyramid.write(20, 30, values)  # a row of chunks stays without files
    pyramid.flush()
    return pyramid


@pytest.mark.parametrize("box", [(0, 1100, 0, 700), (500, 530, 505, 520), (511, 512, 0, 700), (1099, 1100, 699, 700)])
def test_values_are_those_that_zarr_reads(pyramid: Pyramid, tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    array = zarr.open_array(str(tmp_path / "0"), mode="r")
    top, bottom, left, right = box
    found = ChunkFiles(tmp_path / "0", array).read((1,), *box)
    np.testing.assert_array_equal(found, array[1, top:bottom, left:right])


def test_only_single_maps_are_read_so(pyramid: Pyramid, tmp_path: Path) -> None:
    files = ChunkFiles(tmp_path / "0", zarr.open_array(str(tmp_path / "0"), mode="r"))
    assert files.takes((0,))
    assert not files.takes((slice(0, 2),))
    assert not files.takes((-1,))
    assert not files.takes(())


def test_a_damaged_chunk_is_told(pyramid: Pyramid, tmp_path: Path) -> None:
    chunk = tmp_path / "0" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:40])
    files = ChunkFiles(tmp_path / "0", zarr.open_array(str(tmp_path / "0"), mode="r"))
    with pytest.raises((OSError, ValueError, RuntimeError)):
        files.read((1,), 0, 10, 0, 10)
