"""Memory: an overview of a slide without a pyramid takes pieces, not the whole level."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

CODE = """
import resource, sys
from pathlib import Path
from lpd.slide.opening import open_slide
from lpd.slide.region import Region
with open_slide(Path(sys.argv[1])) as slide:
    slide.read(Region(0, 0, 4096, 4096), (1024, 1024))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    picture = slide.thumbnail(1024)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, picture.mean())
"""


def flat_slide(path: Path, width: int, height: int) -> Path:
    """A one-level tiled TIFF of one grey, tile bytes repeated: quick to write, whatever the size."""
    tile = zlib.compress(np.full((512, 512, 3), 120, np.uint8).tobytes())
    count = (width // 512) * (height // 512)

    def tiles() -> Iterator[bytes]:
        yield from [tile] * count

    tifffile.imwrite(
        path,
        tiles(),
        shape=(height, width, 3),
        dtype=np.uint8,
        tile=(512, 512),
        photometric="rgb",
        compression="adobe_deflate",
        metadata=None,
    )
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is asked of the resource module, which Windows lacks")
@pytest.mark.parametrize(("width", "height"), [(8_192, 6_144), pytest.param(24_576, 16_384, marks=pytest.mark.slow)])
def test_overview_of_a_flat_slide_stays_small(tmp_path: Path, width: int, height: int) -> None:
    path = flat_slide(tmp_path / "flat.tif", width, height)
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True)
    added_mb, mean = map(float, done.stdout.split())
    assert mean == 120
    # Decoded, the small one is 200 MB and the large one 1,536 MB as OpenSlide holds them.
    assert added_mb < 100
