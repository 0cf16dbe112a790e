"""The readable report: its tables hold the report's numbers, and foreign text cannot break them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lpd.evaluation.markdown import to_markdown
from lpd.evaluation.matrix import matrix_rows
from lpd.evaluation.report import measure
from lpd.evaluation.text import to_text
from lpd.model.scoring import default_calibration


@pytest.fixture(scope="module")
def report(network, tiles, spec) -> dict[str, Any]:
    calibration = default_calibration(network.config)
    found = measure(network, tiles, spec, tiles.info.scheme, calibration, refinements=("pamr",), paper=True).report
    return {
        "checkpoint": "toy.safetensors",
        "model": {"encoder": "none|such", "saved_by": "lpd"},
        **json.loads(json.dumps(found)),
    }


def rows_of(text: str, start: str) -> list[list[str]]:
    """Cells of the lines that begin with a first cell."""
    return [
        [c.strip() for c in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith(f"| {start} |")
    ]


def test_matrix_rows_hold_every_gate_protocol_and_refinement(report):
    rows = matrix_rows(report)
    assert len(rows) == 3 * (3 + 6 + 3)
    (found,) = [
        r for r in rows if (r.gate, r.background, r.measure) == ("oracle", "tissue rule", "FwIoU with background")
    ]
    assert found.values == {
        "none": report["gates"]["oracle"]["tissue rule"]["fwiou_with_background"],
        "pamr": report["refined"]["pamr"]["oracle"]["tissue rule"]["fwiou_with_background"],
    }


def test_tables_hold_the_numbers(report):
    text = to_markdown(report)
    scores = report["gates"]["predicted"]["ignored"]
    assert f"{100 * scores['accuracy']:.1f} % of tissue" in text
    iou, refined = scores["iou"]["AAA"], report["refined"]["pamr"]["predicted"]["ignored"]["iou"]["AAA"]
    (by_class,) = rows_of(text, "First (AAA)")
    assert by_class[2] == "10"
    assert (by_class[3], by_class[5]) == (f"{100 * iou:.1f}", f"{100 * refined:.1f}")
    assert ["predicted", "ignored", f"{100 * scores['miou']:.1f}"] in [row[:3] for row in rows_of(text, "predicted")]
    counts = report["confusion"]["none"]["predicted"]["ignored"][1]
    (first, _) = rows_of(text, "**BBB**")
    assert first[1:4] == [f"{100 * value / sum(counts):.1f}" for value in counts]
    (empty, _) = rows_of(text, "**CCC**")
    assert empty[1:] == ["–", "–", "–", "0"]
    assert "too sure of itself" in text
    assert "CCC in 0" in text


def test_every_table_is_rectangular(report):
    for block in to_markdown(report, [("worst", "worst.png")]).split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
            assert set(lines[1]) <= set("| -")


def test_foreign_text_cannot_break_the_page(report):
    spoilt = copy.deepcopy(report)
    spoilt["data"]["name"] = "a | b\n# <b>*big*"
    text = to_markdown(spoilt, [("a [x](y)", "my errors/worst.png")])
    assert "a \\| b # \\<b\\>\\*big\\*" in text
    assert "none\\|such" in text
    assert "](my%20errors/worst.png)" in text


def test_what_is_unknown_is_said(report):
    spoilt = copy.deepcopy(report)
    spoilt["spread"].update(low=None, high=None)
    assert "All tiles come from one group" in to_markdown(spoilt)
    assert "all tiles come from one group" in to_text(spoilt)
    spoilt["gates"]["predicted"]["ignored"]["miou"] = None
    assert "No labelled tissue pixel" in to_markdown(spoilt)
    del spoilt["paper"]
    assert "paper" not in to_text(spoilt)
    assert "The paper's own map" not in to_markdown(spoilt)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"difference": 0.0123, "low": -0.004, "high": 0.03}, "): +1.2, 95 % interval −0.4 to +3.0."),
        ({"difference": -0.0004, "low": -0.002, "high": 0.0}, "): +0.0, 95 % interval −0.2 to +0.0."),
        ({"difference": -0.5, "low": None, "high": None}, "): −50.0."),
        ({"difference": None, "low": None, "high": None}, "Nothing can be said of the difference from b.safetensors."),
    ],
)
def test_a_comparison_is_a_sentence(report, found, said):
    compared = {**report, "against": {"model": "b.safetensors", **found}}
    assert said in to_markdown(compared)
    assert said in to_text(compared)


def test_the_terminal_shows_every_refinement_as_a_column(report):
    lines = to_text(report).splitlines()
    assert lines[0] == "toy on 19 valid tiles of toy from 19 groups; percentages"
    head = next(line for line in lines if line.startswith("gate predicted"))
    assert head.split() == ["gate", "predicted", "none", "pamr"]
    row = lines[lines.index(head) + 1]
    plain, refined = (t["predicted"]["ignored"]["miou"] for t in (report["gates"], report["refined"]["pamr"]))
    assert row.split() == ["background", "ignored", "mIoU", f"{100 * plain:.1f}", f"{100 * refined:.1f}"]
