"""Scene: a slide and a model that everything is measured with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.timing import Clock
from lpd.inference.backend import Backend, load_backend
from lpd.inference.choosing import Batch
from lpd.inference.job import SegmentJob, prepare
from lpd.inference.settings import SegmentSettings
from lpd.slide.fine_tissue import FineTissue
from lpd.slide.opening import open_slide
from lpd.slide.slide import Slide


@dataclass(frozen=True)
class Scene:
    """What is measured with what.

    Attributes:
        slide, mpp: the file, and its resolution where it does not say (µm per level-0 pixel).
        checkpoint: the model.
        device: where it runs.
        threads: of the network, on a CPU; with one, the CPU time of the process is what counts.
        rounds: turns of every contestant.
    """

    slide: Path
    checkpoint: Path
    mpp: float | None = None
    device: str = "cpu"
    threads: int = 1
    rounds: int = 7

    @property
    def clock(self) -> Clock:
        # With more threads than one, CPU time says nothing about how long somebody waits.
        return Clock(torch.device(self.device), busy=self.device == "cpu" and self.threads == 1)

    def settings(self, **choices: object) -> SegmentSettings:
        """Those of a run: one reading thread, so that its work counts as any other."""
        fixed = {"threads": self.threads, "reader_threads": 1, "device": self.device, "backend": "torch"}
        return SegmentSettings.from_dict({**fixed, **choices})

    def backend(self) -> Backend:
        """The model, loaded, run by PyTorch in fp32."""
        return load_backend(self.checkpoint, self.settings().device)

    @contextmanager
    def opened(self) -> Iterator[Slide]:
        """The slide, open."""
        with open_slide(self.slide, mpp=self.mpp) as slide:
            yield slide


def all_windows(slide: Slide, job: SegmentJob) -> list[Batch]:
    """All windows of a job as they come to the network, in full batches, the last one filled up."""
    boxes = [window for panel in job.plan.panels() for window in panel.windows]
    windows = list(job.windows(boxes, FineTissue(slide, job.tissue)))
    windows += windows[-1:] * (-len(windows) % job.batch_size)
    parts = (windows[i : i + job.batch_size] for i in range(0, len(windows), job.batch_size))
    return [(np.stack([p for p, _ in part]), np.stack([t for _, t in part])) for part in parts]


def see(backend: Backend, batches: Sequence[Batch]) -> None:
    """Let the network look at some batches."""
    for pixels, _ in batches:
        backend.logits(pixels)


def job_of(slide: Slide, backend: Backend, settings: SegmentSettings) -> SegmentJob:
    """The job that these come to."""
    return prepare(slide, backend, settings)
