"""What the maps of 40 prototypes cost: time against the same run without them, and bytes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.engine.scene import Scene, job_of
from benchmarks.speed.timing import Row, compare
from lpd.inference.backend import Backend, NetworkBackend, load_backend
from lpd.inference.devices import cpu_threads
from lpd.inference.pipeline import segment_slide
from lpd.inference.store import STORE_NAME, ResultStore
from lpd.model.checkpoint import load_checkpoint
from lpd.model.network import LPDNet
from lpd.runs import Run
from lpd.slide.slide import Slide

_PROTOTYPES = 40


def prototypes(scene: Scene) -> list[Row]:
    """The checkpoint's encoder with 40 prototypes or a few less, random ones, with and without their maps."""
    rows = []
    reference = _with_prototypes(scene)
    for name in ("torch", *(n for n in reference.alternatives if "16" not in n)):
        backend = reference.running(name)
        with scene.opened() as slide, TemporaryDirectory() as folder, cpu_threads(scene.threads):
            job = job_of(slide, backend, scene.settings(backend=name))
            kept = Path(folder) / "kept"
            runs = itertools.count()
            _segment(scene, slide, backend, kept, maps=True)
            contestants: dict[str, Callable[[], object]] = {
                label: _segmenting(scene, slide, backend, Path(folder), runs, maps=maps)
                for label, maps in (("without maps", False), ("with the map of every prototype", True))
            }
            tiles = round(job.plan.window_count * job.tiles_per_window)
            model = reference.info.model
            case = f"{model.prototype_count} prototypes, {name}, {model.encoder}, {slide.name}"
            notes = {"with the map of every prototype": _size(kept)}
            rows += compare("prototypes", case, contestants, scene.rounds, scene.clock, tiles=tiles, notes=notes)
    return rows


def _with_prototypes(scene: Scene) -> NetworkBackend:
    loaded = load_backend(scene.checkpoint, scene.settings().device)
    network, info = load_checkpoint(scene.checkpoint, loaded.device)
    model = dataclasses.replace(
        info.model, prototypes_per_class=max(1, _PROTOTYPES // info.classes.count), head="prototypes"
    )
    more = LPDNet(model)
    more.encoder.load_state_dict(network.encoder.state_dict())
    source = "learnable" if info.prototype_source == "linear" else info.prototype_source
    return NetworkBackend(more, dataclasses.replace(info, model=model, prototype_source=source), loaded.device)


def _segmenting(
    scene: Scene, slide: Slide, backend: Backend, folder: Path, runs: itertools.count[int], *, maps: bool
) -> Callable[[], object]:
    return lambda: _segment(scene, slide, backend, folder / str(next(runs)), maps=maps)


def _segment(scene: Scene, slide: Slide, backend: Backend, out: Path, *, maps: bool) -> None:
    settings = scene.settings(adapt=False, backend=backend.name, prototype_maps=maps)
    with Run(out, "segment") as run:
        segment_slide(slide, backend, out, settings, run)


def _size(folder: Path) -> str:
    """Bytes of the maps per mm² of tissue."""
    store = ResultStore.open(folder)
    mask = store.read_mask_px(0, 0, store.meta.mask_size)
    mm2 = np.count_nonzero(mask < store.meta.classes.background) * (store.meta.mask_mpp / 1000) ** 2
    size = sum(path.stat().st_size for path in (folder / STORE_NAME / "prototypes").rglob("*") if path.is_file())
    return f"{size / 1024 / max(mm2, 1e-9):.0f} KB per mm² of tissue"
