"""Exports of a large made-up mask: CPU seconds and peak memory, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from benchmarks.speed.timing import Row
from lpd.classes import BCSS
from lpd.inference.meta import CELL_PX, ResultMeta
from lpd.inference.store import SCORE_MAX, ResultStore

Floats = npt.NDArray[np.float32]

_STRIP_PX = 1024
#: Side of the cells that noise is drawn in, in mask pixels.
_NOISE_PX = 8
#: By name: what is imported before the clock starts, and what is done with the opened ``store`` and the ``out`` folder.
_EXPORTS: Mapping[str, tuple[str, str]] = {
    "annotations.geojson": ("lpd.export.geojson", "write_geojson(store, out / 'a.geojson')"),
    "annotations.geojson, cells of 4 µm, smooth": (
        "lpd.export.geojson",
        "write_geojson(store, out / 's.geojson', simplify_um=4, smooth=True)",
    ),
    "annotations.geojson, smooth": ("lpd.export.geojson", "write_geojson(store, out / 'f.geojson', smooth=True)"),
    "mask.ome.tif": ("lpd.export.ome_tiff", "write_ome_tiff(store, out / 'm.ome.tif')"),
    "areas.csv": ("lpd.export.areas", "write_areas_csv(store, out / 'a.csv')"),
}
_PROCESS = """
import json, sys, time
from pathlib import Path
from {module} import *
from lpd.inference.store import ResultStore

def peak_mb():
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

store, out = ResultStore.open(Path(sys.argv[1])), Path(sys.argv[2])
mb, start = peak_mb(), time.process_time()
{work}
print(json.dumps([time.process_time() - start, peak_mb() - mb]))
"""


def export(side_px: int = 30_000, folder: Path | None = None) -> list[Row]:
    """Time each export of a mask of ``side_px`` × ``side_px``; times are CPU time, peaks above what imports take.

    Args:
        folder: where the result lies, or is made if there is none; a temporary one if None.
    """
    with TemporaryDirectory() as temporary:
        result = folder or Path(temporary) / "result"
        if not result.exists():
            write_result(result, side_px)
        rows = []
        for name, (module, work) in _EXPORTS.items():
            seconds, mb = _measured(module, work, result, Path(temporary))
            rows.append(Row("export", _case(result), name, 1000 * seconds, 0, 1.0, 1.0, 1.0, f"peak +{mb:.0f} MB"))
    return rows


def write_result(folder: Path, side_px: int) -> None:
    """A result of believable make: patches of four classes of all sizes in tissue of ragged outline."""
    meta = ResultMeta("made-up", "0", 2 * side_px, 2 * side_px, 0.5, 1.0, BCSS, "none", "sha256:0")
    store = ResultStore.create(folder, meta)
    fields = _fields(-(-side_px // _NOISE_PX) + 1)
    for y in range(0, side_px, _STRIP_PX):
        for x in range(0, side_px, _STRIP_PX):
            _write_block(store, fields, x, y, min(_STRIP_PX, side_px - x), min(_STRIP_PX, side_px - y))
    store.finish()


def _fields(side: int) -> Floats:
    """(5, side, side): how much each class stands out, and the tissue."""
    rng = np.random.default_rng(1)
    out = np.zeros((5, side, side), np.float32)
    for k in range(4):
        for blur, weight in ((40, 1.0), (10, 0.6), (2.5, 0.35)):
            noise = ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), blur)
            out[k] += weight * noise / noise.std()
    out[4] = ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), 60)
    out[4] += 0.1 * out[4].std() * out[0] + 0.4 * out[4].std()
    return out


def _write_block(store: ResultStore, fields: Floats, x: int, y: int, width: int, height: int) -> None:
    box = (x / _NOISE_PX, y / _NOISE_PX, (x + width) / _NOISE_PX, (y + height) / _NOISE_PX)
    enlarged = [
        np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BILINEAR, box=box))
        for field in fields
    ]
    classes, tissue = np.stack(enlarged[:4]), enlarged[4] > 0
    mask = np.where(tissue, classes.argmax(0), 4).astype(np.uint8)
    store.write_mask(x, y, mask)
    odds = np.exp(classes[:, ::CELL_PX, ::CELL_PX])
    scores = (SCORE_MAX * odds / odds.sum(0)).astype(np.uint8)
    store.write_scores(x // CELL_PX, y // CELL_PX, scores)


def _measured(module: str, work: str, result: Path, out: Path) -> tuple[float, float]:
    """CPU seconds and MB."""
    code = _PROCESS.format(module=module, work=work)
    done = subprocess.run([sys.executable, "-c", code, str(result), str(out)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, mb = json.loads(done.stdout)
    return float(seconds), float(mb)


def _case(result: Path) -> str:
    height, width = ResultStore.open(result).mask_shape
    return f"a made-up mask of {width} × {height} px"
