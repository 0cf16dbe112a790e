"""The largest slide there is to expect, by the command a person would type: memory, time, and whether all is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.engine.large_slide import write_large_slide
from benchmarks.engine.overhead import peak_mb
from benchmarks.speed.timing import Row
from lpd.cli.segmenting import EXPORTS
from lpd.errors import ResultError
from lpd.inference.store import ResultStore

_SIZE_PX = 100_000, 80_000
_LOOK_S = 0.1


@dataclass(frozen=True)
class _Cost:
    """Of a process: seconds on the wall and of CPU, its peak, and what it took when its model was loaded, in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    start_mb: float


def large(checkpoint: Path, share: float, size: tuple[int, int] = _SIZE_PX) -> list[Row]:
    """Write a phantom slide and run ``lpd segment`` on it, in a process of its own.

    Args:
        checkpoint: the model.
        share: how much of the slide is tissue, in squares of 4,096 px; above 0, at most 1.
        size: (width, height) in level-0 pixels of 0.5 µm.

    Raises:
        RuntimeError: the command failed.
    """
    with TemporaryDirectory() as folder:
        slide, out = write_large_slide(Path(folder) / "large.tif", *size, share), Path(folder) / "results"
        command = [sys.executable, "-m", "lpd", "segment", slide, "--checkpoint", checkpoint, "--out", out]
        cost = _run([str(word) for word in (*command, "--resident", "no", "--device", "cpu")], out / "large")
        summary = _summary(out / "large")
        missing = _missing(out / "large")
    case = f"{size[0]} × {size[1]} px, {share:.1%} of it tissue, {summary['backend']}, {checkpoint.stem}"
    note = (
        f"peak +{cost.peak_mb - cost.start_mb:.0f} MB ({cost.peak_mb:.0f} in all), {cost.cpu_s:.0f} CPU-s, "
        f"{summary['tissue_mm2']:.1f} mm², {f'missing: {missing}' if missing else 'all files complete'}"
    )
    tiles = round(summary["tiles_per_second"] * summary["predict_seconds"])
    return [Row("large", case, "lpd segment, exports and all", 1000 * cost.wall_s, tiles, 1.0, 1.0, 1.0, note)]


def _run(command: list[str], folder: Path) -> _Cost:
    """Run a command that segments into ``folder``; its first file there says that the model is loaded."""
    started, start_mb = time.monotonic(), 0.0
    with TemporaryDirectory() as said, (Path(said) / "errors").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if not start_mb and (folder / "state.json").exists():
                start_mb = peak_mb(process.pid)
            time.sleep(_LOOK_S)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-2000:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return _Cost(time.monotonic() - started, cpu_s, usage.ru_maxrss / 1024, start_mb)


def _summary(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return dict(manifest["summary"])


def _missing(folder: Path) -> str:
    """What of a result is not there or not complete; empty if all is."""
    found = [name for name in EXPORTS if not (folder / name).exists()]
    try:
        complete = ResultStore.open(folder).changes().complete
    except ResultError:
        complete = False
    return ", ".join([*found, *([] if complete else ["result.zarr"])])
