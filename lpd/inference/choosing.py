"""Choosing how a network is run: the quickest way that puts windows of this slide into the classes that fp32 does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lpd.inference.backend import Backend
from lpd.inference.meta import CELL_PX
from lpd.inference.settings import BackendName
from lpd.inference.trials import Measured, Trial
from lpd.model.scoring import log_scores

#: A full batch (B, w, w, 3) uint8 RGB, and (B, w, w) where it shows tissue.
Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


#: So many windows of slides must have been seen before one way is chosen for those that follow.
ENOUGH_WINDOWS = 4


def choose(
    reference: Backend,
    batches: Sequence[Batch],
    tried: dict[BackendName, Measured],
    stop_requested: Callable[[], bool] = lambda: False,
) -> tuple[Backend, tuple[Trial, ...]]:
    """The quickest backend that agrees with the reference, which stands if none does.

    Args:
        reference: PyTorch in fp32.
        batches: of windows of the slide, of the shape that the slide will be seen in.
        tried: gets how each way did, for the slides to come, unless the trials were stopped.
        stop_requested: asked before each trial; those left are not made then.

    Returns:
        The backend, and how all the others did.

    Raises:
        CheckpointError: the reference answers with something that is no number.
    """
    names = takewhile(lambda _: not stop_requested(), reference.alternatives)
    here = dict(_measured(reference, names, batches))
    if len(here) == len(reference.alternatives):
        for name, measured in here.items():
            tried[name] = tried.get(name, Measured()) + measured
    trials = tuple(measured.trial(name) for name, measured in here.items())
    return _best(reference, trials), trials


def known(tried: Mapping[BackendName, Measured]) -> BackendName | None:
    """The quickest way that agreed on the slides before; None if there is none, or too few windows have been seen."""
    if not tried or min(measured.windows for measured in tried.values()) < ENOUGH_WINDOWS:
        return None
    return _quickest(tuple(measured.trial(name) for name, measured in tried.items()))


def choose_by_several(
    reference: Backend, batches: Sequence[Batch], tried: dict[BackendName, Measured]
) -> tuple[Backend, tuple[Trial, ...]]:
    """As :func:`choose`, on few windows of each of several slides.

    All ways are tried until enough windows have been seen, and the reference stands; from then on only the quickest
    that agreed is, and is taken if it agrees on this slide too: how quick it is has been found before. If none agreed
    nothing is tried any more.

    Args:
        reference: PyTorch in fp32.
        batches: of windows of this slide.
        tried: how each way did on slides before; this one's part is added.

    Returns:
        The backend, and how all ways did on all slides so far.

    Raises:
        CheckpointError: the reference answers with something that is no number.
    """
    enough = tried and min(m.windows for m in tried.values()) >= ENOUGH_WINDOWS
    chosen = known(tried)
    names = reference.alternatives if not enough else () if chosen is None else (chosen,)
    here = dict(_measured(reference, names, batches, timed=not enough)) if names else {}
    for name, measured in here.items():
        tried[name] = tried.get(name, Measured()) + measured
    trials = tuple(m.trial(name, here[name].agreement if name in here else None) for name, m in tried.items())
    return (reference if chosen is None else _best(reference, tuple(t for t in trials if t.backend == chosen))), trials


def _best(reference: Backend, trials: tuple[Trial, ...]) -> Backend:
    best = _quickest(trials)
    return reference if best is None else reference.running(best)


def _quickest(trials: tuple[Trial, ...]) -> BackendName | None:
    best = max((trial for trial in trials if trial.passed), key=lambda trial: trial.speed, default=None)
    return best.backend if best is not None else None


def _measured(
    reference: Backend, names: Iterable[BackendName], batches: Sequence[Batch], *, timed: bool = True
) -> Iterator[tuple[BackendName, Measured]]:
    """How each way does on a slide's windows; those that show no tissue do not count."""
    expected, seconds = _classes(reference, batches, timed=timed)
    tissue = [_cells(where) for _, where in batches]
    windows, cells = sum(int(t.any(axis=(1, 2)).sum()) for t in tissue), sum(int(t.sum()) for t in tissue)
    for name in names:
        try:
            found, taken = _classes(reference.running(name), batches, timed=timed)
        except Exception as error:  # libraries refuse a network in many ways; the reference does without them
            yield name, Measured(windows=windows, slides=1, failure=f"{type(error).__name__}: {error}"[:300])
            continue
        same = sum(int(((a == b) & t).sum()) for a, b, t in zip(found, expected, tissue, strict=True))
        yield name, Measured(seconds, taken, same, cells, windows, 1)


def _classes(backend: Backend, batches: Sequence[Batch], *, timed: bool) -> tuple[list[npt.NDArray[np.intp]], float]:
    """(B, h, w) class of each cell of each batch, and how long they took after a first one to warm up; 0 if nobody
    wants to know."""
    if timed:
        backend.logits(batches[0][0])
    started = time.perf_counter()
    found = [_class_map(backend, *backend.logits(pixels)) for pixels, _ in batches]
    return found, time.perf_counter() - started if timed else 0.0


def _class_map(backend: Backend, pixel: Tensor, gate: Tensor) -> npt.NDArray[np.intp]:
    return log_scores(pixel, gate, backend.info.calibration).argmax(1).cpu().numpy()


def _cells(tissue: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cells that are tissue for the most part."""
    count, side = len(tissue), tissue.shape[1] // CELL_PX
    shares = tissue.reshape(count, side, CELL_PX, side, CELL_PX).mean(axis=(2, 4))
    return np.asarray(shares > 0.5)
