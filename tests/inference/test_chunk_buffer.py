"""The chunk buffer: what does not fit into memory is written in between, and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

from lpd.inference.chunk_buffer import ChunkBuffer


def test_chunks_that_do_not_fit_into_memory_together_are_written_and_read_again(tmp_path: Path):
    shape = (2, 300, 700)
    values = np.random.default_rng(8).integers(0, 255, shape, dtype=np.uint8)
    arrays = [
        zarr.create(shape, chunks=(1, 64, 64), dtype="uint8", fill_value=255, store=str(tmp_path), path=str(n))
        for n in range(2)
    ]
    buffer = ChunkBuffer(arrays, 5 * 2 * 64 * 64)
    for y in range(0, 300, 50):
        for x in range(0, 700, 90):
            for number in range(2):
                buffer.put(number, x, y, values[:, y : y + 50, x : x + 90] // (1 + number))
                assert buffer.bytes <= 5 * 2 * 64 * 64
    buffer.flush()
    for number in range(2):
        np.testing.assert_array_equal(arrays[number][:], values // (1 + number))


def test_chunks_above_what_is_put_now_are_written_and_dropped(tmp_path: Path):
    shape = (2, 320, 512)
    values = np.random.default_rng(9).integers(0, 255, shape, dtype=np.uint8)
    array = zarr.create(shape, chunks=(1, 64, 64), dtype="uint8", fill_value=255, store=str(tmp_path), path="0")
    buffer = ChunkBuffer([array], 1 << 30)
    for y in range(0, 320, 40):
        for x in range(0, 512, 128):
            buffer.put(0, x, y, values[:, y : y + 40, x : x + 128])
            assert buffer.bytes <= 2 * 8 * 2 * 64 * 64  # two rows of chunks
        np.testing.assert_array_equal(array[:, : y // 64 * 64], values[:, : y // 64 * 64])
    buffer.put(0, 0, 0, values[:, :10, :10])  # and back, as a band after another: what was dropped is read again
    assert buffer.bytes == 2 * 64 * 64
    buffer.flush()
    np.testing.assert_array_equal(array[:], values)
