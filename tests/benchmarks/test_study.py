"""The study's arithmetic and page: differences with known answers, records that survive, nothing hidden."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.study.arms import ARMS, BASELINE
from benchmarks.study.differences import mious, paired_interval
from benchmarks.study.records import Records
from benchmarks.study.reporting import report
from lpd.recipe.settings_file import changed, read_config


def record(arm: str, seed: int, groups: dict[str, list[list[int]]], adapted: dict | None = None) -> dict:
    gate = {"miou": 0.5 + seed / 100, "iou": {"TUM": 0.4, "STR": None}}
    return {
        "data": "luad224",
        "arm": arm,
        "seed": seed,
        "gates": {"predicted": gate, "oracle": gate, "none": gate},
        "groups": groups,
        "adapted": groups if adapted is None else adapted,
        "figures": {},
        "recipe": ["preset cpu"],
        "encoder": "e.safetensors",
        "fingerprints": ["a", "b"],
        "cpu_seconds": 60,
        "device": "cpu",
    }


PERFECT, HALF = [[10, 0], [0, 10]], [[5, 5], [5, 5]]


def test_mean_iou_by_hand():
    # Right half of the time: 5 / (10 + 10 - 5) for both classes.
    np.testing.assert_allclose(mious(np.array([PERFECT, HALF, [[4, 0], [0, 0]]], dtype=float)), [1, 1 / 3, 1])
    # Invented pixels of a class that is not there cost the class that is.
    np.testing.assert_allclose(mious(np.array([[[3, 1], [0, 0]]], dtype=float)), [3 / 4])


def test_the_same_difference_everywhere_has_no_spread():
    ours = [record("LPD", s, {"p": PERFECT, "q": PERFECT}) for s in (0, 1)]
    theirs = [record(BASELINE, s, {"p": HALF, "q": HALF}) for s in (0, 1)]
    assert paired_interval(ours, theirs) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert paired_interval(ours, ours) == (0, 0, 0)


def test_the_interval_spans_what_pictures_and_seeds_could_have_said():
    # One picture speaks for us, the other for them, equally loud: nobody knows.
    ours = [record("LPD", 0, {"p": PERFECT, "q": HALF})]
    theirs = [record(BASELINE, 0, {"p": HALF, "q": PERFECT})]
    middle, low, high = paired_interval(ours, theirs)
    assert middle == pytest.approx(0)
    assert (low, high) == pytest.approx((-2 / 3, 2 / 3))
    by_seed = [record("LPD", s, {"p": PERFECT if s else HALF}) for s in (0, 1)]
    _, low, high = paired_interval(by_seed, [record(BASELINE, s, {"p": HALF}) for s in (0, 1)])
    assert (low, high) == pytest.approx((0, 2 / 3))


def test_records_are_kept_and_replaced(tmp_path):
    records = Records(tmp_path / "results.json")
    records.add(record("LPD", 1, {}))
    records.add(record("LPD", 0, {}))
    records.add({**record("LPD", 1, {}), "cpu_seconds": 5})
    again = Records(tmp_path / "results.json")
    assert [(r["seed"], r["cpu_seconds"]) for r in again.all] == [(0, 60), (1, 5)]
    assert again.find("luad224", "LPD", 2) is None
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == again.all


def test_the_page_tells_spread_difference_and_what_is_missing(tmp_path):
    records = Records(tmp_path / "results.json")
    for seed in (0, 1):
        records.add(record(BASELINE, seed, {"p": HALF}, {"p": PERFECT}))
        records.add(record("LPD", seed, {"p": PERFECT}))
    page = report(records, [0, 1], "Nothing yet.")
    assert "| LPD | 2 | **50.5 ± 0.7** | 40.0 ± 0.0 | – |" in page
    ours, adapted = "+66.7 (+66.7 to +66.7)", "**100.0 ± 0.0**"
    assert f"| {ours} | {adapted} | {ours} | +0.0 (+0.0 to +0.0) |" in page
    baseline = next(line for line in page.splitlines() if line.startswith(f"| {BASELINE} | 2"))
    assert baseline.endswith(f"|  | {adapted} | {ours} |  |")
    assert "Not run yet:" in page
    assert "k-means (seed 0, 1);" in page
    assert page.endswith("Nothing yet.\n")
    assert "ocelot224" not in page


@pytest.mark.parametrize("arm", [name for name, arm in ARMS.items() if not arm.bank])
def test_every_arm_is_a_valid_training_and_not_another_arm(arm):
    base = read_config("cpu", overrides=["encoder.weights=w.safetensors"])
    config = changed(base, *ARMS[arm].settings)
    same = [name for name, other in ARMS.items() if not other.bank and changed(base, *other.settings) == config]
    twins = {"LPD": "untrained", "LPD, L_pix": "LPD, L_pix, with masks"}
    assert sorted(same) == sorted({arm, *(pair for twin in twins.items() if arm in twin for pair in twin)})
