"""Choosing how a network is run: the quickest way that puts windows of this slide into the classes that fp32 does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lpd.config import Settings
from lpd.inference.backend import Backend
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import BackendName
from lpd.model.scoring import log_scores

#: The share of tissue that must fall into the same class as under the reference.
LEAST_AGREEMENT = 0.999
#: A way that is less than this much quicker is not worth other last digits.
_LEAST_SPEED = 1.1

#: A full batch (B, w, w, 3) uint8 RGB, and (B, w, w) where it shows tissue.
Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Trial(Settings):
    """How one way did beside the reference.

    Attributes:
        backend: its name.
        speed: how many times as fast as the reference it was.
        agreement: share of the tissue that it put into the same class, 0–1.
        failure: why it could not be run, else empty.
    """

    backend: BackendName
    speed: float
    agreement: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.agreement >= LEAST_AGREEMENT and self.speed >= _LEAST_SPEED


def choose(
    reference: Backend, batches: Sequence[Batch], stop_requested: Callable[[], bool] = lambda: False
) -> tuple[Backend, tuple[Trial, ...]]:
    """The quickest backend that agrees with the reference, which stands if none does.

    Args:
        reference: PyTorch in fp32.
        batches: of windows of the slide, of the shape that the slide will be seen in.
        stop_requested: asked before each trial; those left are not made then.

    Returns:
        The backend, and how all the others did.

    Raises:
        CheckpointError: the reference answers with something that is no number.
    """
    expected, seconds = _classes(reference, batches)
    tissue = [_cells(where) for _, where in batches]
    names = takewhile(lambda _: not stop_requested(), reference.alternatives)
    trials = tuple(_try(reference, name, batches, expected, tissue, seconds) for name in names)
    passed = [trial for trial in trials if trial.passed]
    best = max(passed, key=lambda trial: trial.speed, default=None)
    return reference if best is None else reference.running(best.backend), trials


def _try(
    reference: Backend,
    name: BackendName,
    batches: Sequence[Batch],
    expected: Sequence[npt.NDArray[np.intp]],
    tissue: Sequence[npt.NDArray[np.bool_]],
    seconds: float,
) -> Trial:
    try:
        found, taken = _classes(reference.running(name), batches)
    except Exception as error:  # libraries refuse a network in many ways; the reference does without them
        return Trial(name, 0.0, 0.0, f"{type(error).__name__}: {error}"[:300])
    same = sum(int(((a == b) & t).sum()) for a, b, t in zip(found, expected, tissue, strict=True))
    return Trial(name, seconds / max(taken, 1e-9), same / max(1, sum(int(t.sum()) for t in tissue)))


def _classes(backend: Backend, batches: Sequence[Batch]) -> tuple[list[npt.NDArray[np.intp]], float]:
    """(B, h, w) class of each cell of each batch, and how long they took after a first one to warm up."""
    backend.logits(batches[0][0])
    started = time.perf_counter()
    found = [_class_map(backend, *backend.logits(pixels)) for pixels, _ in batches]
    return found, time.perf_counter() - started


def _class_map(backend: Backend, pixel: Tensor, gate: Tensor) -> npt.NDArray[np.intp]:
    return log_scores(pixel, gate, backend.info.calibration).argmax(1).cpu().numpy()


def _cells(tissue: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cells that are tissue for the most part."""
    count, side = len(tissue), tissue.shape[1] // CELL_PX
    shares = tissue.reshape(count, side, CELL_PX, side, CELL_PX).mean(axis=(2, 4))
    return np.asarray(shares > 0.5)
