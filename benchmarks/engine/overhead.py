"""What a run spends beside the network: time on one slide, memory on slides of all sizes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.engine.large_slide import write_large_slide
from benchmarks.engine.scene import Scene, job_of
from benchmarks.engine.stand_in import StandIn
from benchmarks.speed.timing import Row, compare
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.model.header import read_info
from lpd.runs import Run
from lpd.slide.slide import Slide

#: (width, height) of made slides and how much of each is tissue.
_PHANTOMS = ((8_000, 6_000, 1.0), (16_000, 12_000, 1.0), (40_000, 30_000, 1.0), (100_000, 80_000, 0.125))
_PROCESS = """
import sys
from pathlib import Path
from benchmarks.engine.overhead import peak_of
peak_of(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def overhead(scene: Scene) -> list[Row]:
    """A whole slide with a network that costs nothing: tiles per CPU second, windows of one tile as peers have them."""
    info = read_info(scene.checkpoint)
    tile = info.input.tile_px
    rows = []
    with scene.opened() as slide, TemporaryDirectory() as folder:
        runs = itertools.count()
        contestants: dict[str, Callable[[], object]] = {}
        tiles: dict[str, int] = {}
        for name, choices in (
            ("windows of three tiles", {}),
            ("windows of one tile, 3/7 of it apart", {"window_px": tile, "stride_px": tile * 3 // 7}),
        ):
            settings, backend = scene.settings(adapt=False, **choices), StandIn(info)
            contestants[name] = partial(_segment, slide, backend, Path(folder), runs, settings)
            job = job_of(slide, backend, settings)
            tiles[name] = round(job.plan.window_count * job.tiles_per_window)
        case = f"{slide.width_l0} × {slide.height_l0} px, {slide.name}"
        rows += compare("overhead", case, contestants, scene.rounds, scene.clock, tiles=tiles)
    return rows


def _segment(
    slide: Slide, backend: StandIn, folder: Path, runs: itertools.count[int], settings: SegmentSettings
) -> None:
    out = folder / str(next(runs))
    with Run(out, "segment") as run:
        segment_slide(slide, backend, out, settings, run)


def memory(checkpoint: Path, slides: Sequence[Path]) -> list[Row]:
    """Peak memory of a run above what imports and an open slide take, a process for each slide."""
    rows = []
    for path in slides:
        with TemporaryDirectory() as folder:
            command = [sys.executable, "-c", _PROCESS, str(path), str(checkpoint), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            found = json.loads(done.stdout)
        note = f"peak +{found['mb']:.0f} MB"
        rows.append(Row("memory", "a network that costs nothing", found["case"], found["ms"], 0, 1.0, 1.0, 1.0, note))
    return rows


def phantom_memory(checkpoint: Path, slides: Sequence[tuple[int, int, float]] = _PHANTOMS) -> list[Row]:
    """The same on phantoms that are made for it.

    Args:
        checkpoint: its classes and its resolution count.
        slides: width, height (level-0 pixels of 0.5 µm) and share of tissue, see :func:`write_large_slide`.
    """
    rows = []
    for width, height, share in slides:
        with TemporaryDirectory() as folder:
            found = memory(checkpoint, [write_large_slide(Path(folder) / "phantom.tif", width, height, share)])
        said = "" if share == 1 else f", {share:.1%} of it tissue"
        rows += [dataclasses.replace(row, name=row.name + said) for row in found]
    return rows


def peak_of(path: Path, checkpoint: Path, folder: Path) -> None:
    """Run in a process of its own; prints what it took as JSON."""
    scene = Scene(path, checkpoint, mpp=0.5)
    backend, settings = StandIn(read_info(checkpoint)), scene.settings(adapt=False, reader_threads=2)
    with scene.opened() as slide:
        before, start = peak_mb(), scene.clock.now()
        with Run(folder / "out", "segment") as run:
            segment_slide(slide, backend, folder / "out", settings, run)
        case = f"{slide.width_l0} × {slide.height_l0} px"
        ms = 1000 * (scene.clock.now() - start)
    print(json.dumps({"case": case, "ms": ms, "mb": peak_mb() - before}))


def peak_mb(process: int | str = "self") -> float:
    """The most that a process, by its number, has had in memory; 0 if it has just ended."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0) / 1024
