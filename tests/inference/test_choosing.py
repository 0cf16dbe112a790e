"""How the quickest backend is found: by time, among those that put the slide's tissue into the same classes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from lpd.errors import ConfigError
from lpd.inference import choosing, pipeline
from lpd.inference.choosing import choose
from lpd.inference.settings import SegmentSettings

from .conftest import ColourBackend, Segment, whole_mask


class Variants(ColourBackend):
    """Ways to run a colour rule: how long each takes and which share of a window's rows it gets wrong."""

    alternatives = ("torch-bf16", "torch-frozen", "openvino")
    ways: dict[str, tuple[float, float]]
    seconds, wrong = 0.02, 0.0
    clock: ClassVar[list[float]] = [0.0]  # their own, which a busy machine does not hold up

    def running(self, name: str) -> Variants:
        if name not in self.ways:
            raise ConfigError(f"backend {name} is broken")
        other = Variants(self.info.path)
        other.tried = self.tried
        other.name, other.ways = name, self.ways
        other.seconds, other.wrong = self.ways[name]
        other.batches = self.batches
        return other

    def logits(self, windows):
        self.clock[0] += self.seconds
        pixel, gate = super().logits(windows)
        rows = round(self.wrong * pixel.shape[2])
        pixel[:, :, :rows] = -pixel[:, :, :rows]
        return pixel, gate


@pytest.fixture
def variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Variants:
    monkeypatch.setattr(choosing, "time", SimpleNamespace(perf_counter=lambda: Variants.clock[0]))
    path = tmp_path / "variants.safetensors"
    path.write_bytes(b"variants")
    return Variants(path)


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    return [(windows[:2], np.ones((2, 64, 64), bool)), (windows[2:], np.ones((2, 64, 64), bool))]


def test_the_quickest_that_agrees_is_taken(variants, batches):
    variants.ways = {"torch-bf16": (0.0, 0.5), "torch-frozen": (0.01, 0.0), "openvino": (0.002, 0.0)}
    found, trials = choose(variants, batches, {})
    assert found.name == "openvino"
    assert [t.backend for t in trials] == ["torch-bf16", "torch-frozen", "openvino"]
    assert [t.passed for t in trials] == [False, True, True]
    assert trials[0].agreement == pytest.approx(0.5)
    assert trials[1].agreement == trials[2].agreement == 1.0
    assert trials[2].speed > trials[1].speed > 1.1
    assert all(not t.failure for t in trials)


def test_one_that_is_no_quicker_is_not_worth_it(variants, batches):
    variants.ways = {"torch-frozen": (0.04, 0.0)}
    found, trials = choose(variants, batches, {})
    assert found is variants
    assert trials[1].speed < 1
    assert trials[0].failure == "ConfigError: backend torch-bf16 is broken"


def test_whatever_goes_wrong_in_a_trial_is_its_failure(variants, batches):
    class OddError(Exception):
        pass

    def broken(_name: str) -> Variants:
        raise OddError("no such layer")

    variants.running = broken
    found, trials = choose(variants, batches, {})
    assert found is variants
    assert {t.failure for t in trials} == {"OddError: no such layer"}


def test_a_stop_ends_the_trials(variants, batches):
    variants.ways = {"torch-bf16": (0.0, 0.0)}
    assert choose(variants, batches, tried := {}, lambda: True) == (variants, ())
    assert not tried


def test_only_tissue_counts(variants, batches):
    """The upper half is wrong: of no account where it is glass."""
    variants.ways = {"torch-bf16": (0.0, 0.5)}
    for _, tissue in batches:
        tissue[:, :32] = False
    found, trials = choose(variants, batches, {})
    assert found.name == "torch-bf16"
    assert trials[0].agreement == 1.0


def test_one_cell_in_a_thousand_may_differ(variants):
    windows = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), dtype=np.uint8)
    batch = [(windows, np.ones((1, 256, 256), bool))]
    variants.ways = {"torch-bf16": (0.0, 1 / 64)}  # one row of 64 cells: 1.6 %
    assert choose(variants, batch, {})[0] is variants


def test_a_large_slide_is_tried_on_and_the_result_says_how_it_was_run(segment: Segment, variants, monkeypatch):
    monkeypatch.setattr(pipeline, "_WORTH_TRYING_PX", 1)
    expected = whole_mask(segment()[0])
    variants.ways = {"torch-frozen": (0.0, 0.0)}
    store, summary = segment(using=variants, batch_size=3)
    assert summary.backend == "torch-frozen"
    assert [t.backend for t in summary.trials] == list(Variants.alternatives)
    assert (whole_mask(store) == expected).all()
    assert json.loads(json.dumps(summary.to_dict()))["trials"][1]["backend"] == "torch-frozen"
    assert set(variants.batches[:4]) == {3}  # the shape that the slide is then seen in


def test_the_next_large_slide_is_only_checked(segment: Segment, variants, monkeypatch):
    """What is quickest is known by then; whether it agrees is looked at on one batch of each slide."""
    monkeypatch.setattr(pipeline, "_WORTH_TRYING_PX", 1)
    monkeypatch.setattr(choosing, "ENOUGH_WINDOWS", 2)
    variants.ways = {"torch-bf16": (0.0, 0.5), "openvino": (0.0, 0.0)}
    first = segment(using=variants, batch_size=1)[1]
    before = len(variants.batches)
    second = segment(using=variants, batch_size=1)[1]
    assert len(variants.batches) - before == second.windows + 2  # the reference and the way that is known
    assert [s.backend for s in (first, second)] == ["openvino"] * 2
    assert [t.slides for t in second.trials] == [1, 1, 2]
    assert second.trials[2].agreement_here == 1.0
    variants.ways = {"openvino": (0.0, 0.1)}
    assert segment(using=variants, batch_size=1)[1].backend == "torch"


def test_a_small_slide_is_not_tried_on(segment: Segment, variants):
    variants.ways = {"torch-frozen": (0.0, 0.0)}
    _, summary = segment(using=variants)
    assert (summary.backend, summary.trials) == ("torch", ())


@pytest.fixture
def small(monkeypatch):
    """The painted slide is one of those that a way is chosen for on several of."""
    monkeypatch.setattr(pipeline, "_WORTH_CHECKING_PX", 1)
    monkeypatch.setattr(choosing, "ENOUGH_WINDOWS", 3)


def test_small_slides_are_tried_on_together(segment: Segment, variants, small):
    variants.ways = {"torch-bf16": (0.0, 0.5), "openvino": (0.0, 0.0)}
    expected = whole_mask(segment()[0])
    found = [segment(using=variants, batch_size=1) for _ in range(6)]
    assert [summary.backend for _, summary in found] == ["torch"] * 4 + ["openvino"] * 2
    assert all((whole_mask(store) == expected).all() for store, _ in found)
    assert found[0][1].trials == ()  # maybe there would have been no other slide
    for _, summary in found[1:4]:
        assert [t.backend for t in summary.trials] == list(Variants.alternatives)
    assert [[(t.windows, t.slides) for t in s.trials] for _, s in found[1:]] == [
        [(1, 1)] * 3,
        [(2, 2)] * 3,
        [(3, 3)] * 3,
        [(3, 3), (3, 3), (4, 4)],  # from now on the one that was chosen is checked on each slide
        [(3, 3), (3, 3), (5, 5)],
    ]
    store, summary = found[-1]
    assert [t.passed for t in summary.trials] == [False, False, True]
    assert [t.agreement_here for t in summary.trials] == [None, None, 1.0]
    assert store.meta.trials[2]["slides"] == 5
    _, summary = segment(using=variants, into=store.folder, resume=True, batch_size=1)
    assert (summary.backend, summary.trials) == ("openvino", found[-1][1].trials)


def test_a_way_that_does_not_agree_on_this_slide_is_not_used_for_it(segment: Segment, variants, small):
    variants.ways = {"openvino": (0.0, 0.0)}
    for _ in range(4):
        segment(using=variants, batch_size=1)
    (tried,) = variants.tried.ways.values()
    tried["openvino"] += choosing.Measured(same=10**6, tissue=10**6)  # so that all together it does
    variants.ways = {"openvino": (0.0, 0.1)}
    _, summary = segment(using=variants, batch_size=1)
    by_name = {t.backend: t for t in summary.trials}
    assert summary.backend == "torch"
    assert by_name["openvino"].agreement > 0.999
    assert by_name["openvino"].agreement_here == pytest.approx(0.9, abs=0.02)
    variants.ways = {"openvino": (0.0, 0.0)}
    assert segment(using=variants, batch_size=1)[1].backend == "openvino"


def test_where_nothing_agrees_trying_ends(segment: Segment, variants, small):
    variants.ways = {"openvino": (0.0, 0.5)}
    for _ in range(4):
        segment(using=variants, batch_size=1)
    before = len(variants.batches)
    _, summary = segment(using=variants, batch_size=1)
    assert len(variants.batches) - before == summary.windows
    assert (summary.backend, [t.slides for t in summary.trials]) == ("torch", [3] * 3)


def test_other_settings_are_tried_apart(segment: Segment, variants, small):
    variants.ways = {"openvino": (0.0, 0.0)}
    for _ in range(5):
        segment(using=variants, batch_size=1)
    assert segment(using=variants, batch_size=1)[1].backend == "openvino"
    assert segment(using=variants, batch_size=2)[1].backend == "torch"


def test_what_a_person_asks_for_is_taken_untried(segment: Segment, variants):
    variants.ways = {"openvino": (0.0, 0.0)}
    _, summary = segment(using=variants, backend="openvino")
    assert (summary.backend, summary.trials) == ("openvino", ())


def test_what_this_machine_lacks_is_refused_before_anything_is_written(segment: Segment, variants, tmp_path):
    variants.ways = {}
    with pytest.raises(ConfigError, match="openvino is broken"):
        segment(using=variants, backend="openvino")
    assert not list(tmp_path.glob("**/result.zarr"))


def test_an_unknown_backend_is_named():
    with pytest.raises(ConfigError, match="backend 'onnx' must be one of auto, torch, torch-frozen"):
        SegmentSettings(backend="onnx")  # type: ignore[arg-type]


def test_windows_that_fill_up_a_batch_do_not_count():
    windows = [(np.full((8, 8, 3), i, np.uint8), np.ones((8, 8), bool)) for i in range(3)]
    (first, second) = pipeline._tried(windows, 2)
    assert [b[0].shape for b in (first, second)] == [(2, 8, 8, 3)] * 2
    assert second[0][:, 0, 0, 0].tolist() == [2, 2]
    assert second[1].any(axis=(1, 2)).tolist() == [True, False]
