"""Ways to run the encoder: how many times as fast as PyTorch in fp32 each is, and how often it says the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.engine.scene import Scene, all_windows, job_of, see
from benchmarks.speed.timing import Row, compare
from lpd.errors import LpdError
from lpd.inference.backend import Backend
from lpd.inference.choosing import Batch
from lpd.inference.devices import computes_bf16, cpu_threads
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import BACKENDS
from lpd.model.scoring import log_scores

#: Windows that each contestant sees in a round.
_SPEED_WINDOWS = 4


def backends(scene: Scene) -> list[Row]:
    """Speed on some windows of the slide, agreement of the classes of all its tissue."""
    reference = scene.backend()
    with scene.opened() as slide, cpu_threads(scene.threads):
        job = job_of(slide, reference, scene.settings())
        batches = all_windows(slide, job)
        some = batches[: max(1, _SPEED_WINDOWS // job.batch_size)]
        contestants: dict[str, Callable[[], object]] = {}
        notes: dict[str, str] = {}
        expected = _classes(reference, batches)
        for name in BACKENDS[1:]:
            if name == "torch-bf16" and not computes_bf16(reference.device):
                continue
            try:
                backend = reference.running(name)
                notes[name] = f"agreement {_agreement(_classes(backend, batches), expected, batches):.4f}"
            except LpdError:  # this machine cannot
                continue
            contestants[name] = partial(see, backend, some)
        case = f"{reference.info.model.encoder}, windows of {job.seen_px} px, {scene.checkpoint.stem} on {slide.name}"
        tiles = round(len(some) * job.batch_size * job.tiles_per_window)
        return compare("backends", case, contestants, scene.rounds, scene.clock, tiles=tiles, notes=notes)


def _classes(backend: Backend, batches: list[Batch]) -> list[npt.NDArray[np.intp]]:
    calibration = backend.info.calibration
    return [log_scores(*backend.logits(pixels), calibration).argmax(1).cpu().numpy() for pixels, _ in batches]


def _agreement(found: list[npt.NDArray[np.intp]], expected: list[npt.NDArray[np.intp]], batches: list[Batch]) -> float:
    same = total = 0
    for one, other, (_, tissue) in zip(found, expected, batches, strict=True):
        cells = tissue[:, CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX]
        same, total = same + int(((one == other) & cells).sum()), total + int(cells.sum())
    return same / total
