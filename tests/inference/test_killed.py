"""SIGKILL, the real one, at the worst moments of a run that joins a region: nothing is lost, and nothing is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lpd.inference.settings import SegmentSettings
from lpd.runs import read_state

from .conftest import Segment
from .test_going_on import SMALL as SMALLEST
from .test_going_on import levels_of

SMALL = {**SMALLEST, "window_px": 96, "stride_px": 64, "panel_px": 192}
REGION = {"x_l0": 400, "y_l0": 300, "width_l0": 333, "height_l0": 301}
#: Moments: what is called, and at which of its calls the process ends instead.
MOMENTS = {
    "begun but not said": ("lpd.inference.changes:ChangeLog.begin_part", 1),
    "early": ("tests.inference.conftest:ColourBackend.logits", 2),
    "scores but no mask": ("lpd.inference.pyramid:Pyramid.flush", 6),
    "written but not said": ("lpd.inference.changes:ChangeLog.append", 3),
    "late": ("tests.inference.conftest:ColourBackend.logits", 30),
    "done but not said": ("lpd.inference.changes:ChangeLog.finish", 1),
}
#: A fork for each moment, so that torch is imported once. Panels are written as they come.
SCRIPT = """
import importlib, json, os, signal, sys
from pathlib import Path
from lpd.inference import pipeline, store
from lpd.inference.settings import SegmentSettings
from lpd.runs import Run
from lpd.slide.opening import open_slide
from tests.inference.conftest import ColourBackend

def die_in(what, call):
    module, _, name = what.partition(":")
    kind, name = name.split(".")
    owner, calls = getattr(importlib.import_module(module), kind), []
    real = getattr(owner, name)

    def dying(*args, **more):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, name, dying)

store._WAITS, store._LEAST_WAIT_S = 0, 0
asked = json.loads(sys.argv[1])
for folder, (what, call) in asked["moments"].items():
    child = os.fork()
    if not child:
        die_in(what, call)
        settings, backend = SegmentSettings.from_dict(asked["settings"]), ColourBackend(Path(asked["checkpoint"]))
        with open_slide(Path(asked["slide"]), mpp=0.5) as slide, Run(Path(folder), "segment") as run:
            pipeline.segment_slide(slide, backend, Path(folder), settings, run, resume=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, folder
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_joining_run_that_was_killed_ends_as_one_that_was_not(segment: Segment, backend, slide_path, tmp_path: Path):
    whole, all_of_it = segment(**SMALL)
    first, _ = segment(**SMALL, region=REGION)
    expected, had = levels_of(whole), levels_of(first)
    folders = {name: tmp_path / name for name in MOMENTS}
    for folder in folders.values():
        shutil.copytree(first.folder, folder)
    settings = SegmentSettings.from_dict({**SMALL, "batch_size": 1, "threads": 1, "device": "cpu"}).to_dict()
    moments = {str(folders[name]): moment for name, moment in MOMENTS.items()}
    asked = {"moments": moments, "settings": settings, "slide": str(slide_path), "checkpoint": str(backend.info.path)}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(asked)], cwd=root, check=True)
    kept = []
    for name, folder in folders.items():
        assert read_state(folder).state == "crashed", name
        store, summary = segment(into=folder, resume=True, **SMALL)
        for found, level in zip(levels_of(store), expected, strict=True):
            np.testing.assert_array_equal(found, level, err_msg=name)
        assert [log.complete for log in store.parts()] == [True, True], name
        assert summary.tissue_mm2 == pytest.approx(all_of_it.tissue_mm2), name
        kept.append(summary.kept)
    assert kept[0] == pytest.approx((had[levels_before_mask(had)] != 255).mean())  # all that the first run made
    assert kept == sorted(kept)
    assert kept[-1] == 1


def levels_before_mask(levels: list[np.ndarray]) -> int:
    """Which level is the mask in full."""
    return max((n for n, level in enumerate(levels) if level.ndim == 2), key=lambda n: levels[n].size)
