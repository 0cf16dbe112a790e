"""Whole phantom slides, segmented as ``lpd segment`` does, against the truth that they are drawn with."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from lpd.data.phantom import mask_path, write_phantom_slide
from lpd.evaluation.confusion import Scores, confusion_matrix, scores_from
from lpd.inference.backend import Backend, load_backend
from lpd.inference.pipeline import segment_slide
from lpd.inference.settings import SegmentSettings
from lpd.inference.store import ResultStore
from lpd.runs import Run
from lpd.slide.opening import open_slide

WIDTH, HEIGHT = 4096, 3072


def slide_scores(checkpoint: Path, seeds: Sequence[int]) -> str:
    """A Markdown table: mean IoU of tissue classes, glass and predicted background counted, of all slides and each."""
    backend = load_backend(checkpoint, "cpu")
    codes = backend.info.classes.codes
    names = [*codes, "background"]
    lines = [["prototypes", "tissue mIoU by slide", "all slides", *(f"IoU {name}" for name in names)]]
    lines += [["---"] * len(lines[0])]
    with tempfile.TemporaryDirectory() as folder:
        slides = [Path(folder) / f"{seed}.tif" for seed in seeds]
        for slide, seed in zip(slides, seeds, strict=True):
            write_phantom_slide(slide, width=WIDTH, height=HEIGHT, seed=seed)
        for adapt, name in ((False, "as trained"), (True, "adapted")):
            counts = [_counts(slide, backend, adapt=adapt) for slide in slides]
            single = [100 * scores_from(c, len(codes)).miou for c in counts]
            scores = scores_from(np.sum(counts, axis=0), len(codes))
            lines.append([name, _spread(single), f"**{100 * scores.miou:.1f}**", *_each(scores)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(slide: Path, backend: Backend, *, adapt: bool) -> npt.NDArray[np.int64]:
    truth = tifffile.imread(mask_path(slide))
    out = slide.with_suffix(".result")
    with open_slide(slide) as opened, Run(out, "segment") as run:
        segment_slide(opened, backend, out, SegmentSettings(adapt=adapt, device="cpu"), run)
        found = ResultStore.open(out).read_mask(opened.region, truth.shape[::-1])
    return confusion_matrix(truth[None], found[None], backend.info.classes.count + 1)


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} ({low:.1f} to {high:.1f})"


def _each(scores: Scores) -> list[str]:
    return [f"{100 * value:.1f}" for value in scores.iou]
