"""Whole slides against the bound: the network alone on the very windows, already cut and in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.engine.scene import Scene, all_windows, job_of, see
from benchmarks.speed.timing import Row, compare
from lpd.inference.backend import Backend
from lpd.inference.devices import cpu_threads
from lpd.inference.pipeline import segment_slide
from lpd.runs import Run
from lpd.slide.slide import Slide


def whole(scene: Scene) -> list[Row]:
    """Reading, tissue, blending, scores and storing on top of the network's own time; then adapting."""
    rows = []
    reference = scene.backend()
    for name in ("torch", *(n for n in reference.alternatives if "16" not in n)):
        backend = reference.running(name)
        with scene.opened() as slide, TemporaryDirectory() as folder, cpu_threads(scene.threads):
            job = job_of(slide, backend, scene.settings(adapt=False, backend=name))
            batches = all_windows(slide, job)
            runs = itertools.count()
            contestants: dict[str, Callable[[], object]] = {
                "the network alone": partial(see, backend, batches),
                "the whole slide, not adapted": _segmenting(scene, slide, backend, Path(folder), runs, adapt=False),
                "the whole slide": _segmenting(scene, slide, backend, Path(folder), runs, adapt=True),
            }
            tiles = round(job.plan.window_count * job.tiles_per_window)
            case = f"{name}, {reference.info.model.encoder}, {slide.width_l0} × {slide.height_l0} px, {slide.name}"
            rows += compare("whole", case, contestants, scene.rounds, scene.clock, tiles=tiles)
    return rows


def _segmenting(
    scene: Scene, slide: Slide, backend: Backend, folder: Path, runs: itertools.count[int], *, adapt: bool
) -> Callable[[], object]:
    settings = scene.settings(adapt=adapt, backend=backend.name)

    def segment() -> None:
        out = folder / str(next(runs))
        with Run(out, "segment") as run:
            segment_slide(slide, backend, out, settings, run)

    return segment
