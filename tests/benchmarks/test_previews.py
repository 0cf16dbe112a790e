"""The cards of the shipped previews: what their generator writes, for files that say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.previews.card import card, slides_section
from benchmarks.previews.previews import PREVIEWS, SEEDS, command_of, settings_of
from lpd.model.header import CheckpointInfo, read_info

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


def shipped(name: str) -> CheckpointInfo:
    preview = PREVIEWS[name]
    return read_info(SHIPPED / f"{preview.data}-{preview.source}-mobilenetv2_100.safetensors")


@pytest.mark.parametrize("name", PREVIEWS)
def test_a_shipped_card_is_the_generators_own(name):
    info = shipped(name)
    kept = info.path.with_suffix(".md").read_text(encoding="utf-8")
    measured = [block for block in kept.split("\n\n") if block.startswith("| prototypes | tissue mIoU by slide")]
    assert bool(measured) == bool(PREVIEWS[name].slides)
    more = {"slides": slides_section(name, *measured)}
    others = {"bf16, shipped": info.scores["valid"]} if PREVIEWS[name].beside else {}
    written = card(name, info, dict.fromkeys(PREVIEWS[name].seeds, info.scores["valid"]), more, others)
    before, _, after = written.partition("| seed |")
    assert kept.startswith(before)
    assert kept.endswith(after[after.index("## Limits") :])
    rows = [line for line in after.splitlines() if line.startswith((f"| {SEEDS[0]} |", "| clustered, "))]
    assert len(rows) == 1 + PREVIEWS[name].clustered
    assert all(row in kept for row in rows)  # the seed that is shipped


def test_clustered_prototypes_are_scored_beside_learnable_ones():
    text = shipped("luad224-kmeans").path.with_suffix(".md").read_text(encoding="utf-8")
    learnable = shipped("luad224").scores["valid"]["gates"]["predicted"]["ignored"]["miou"]
    assert f"| learnable, bf16, shipped | {100 * learnable:.1f} |" in text
    assert "| learnable, fp32 |" in text


@pytest.mark.parametrize("name", PREVIEWS)
def test_the_command_on_the_card_has_the_settings_of_the_file(name):
    stated = shipped(name).training["settings"]
    bank = Path(stated["prototypes"]["bank"])
    settings = settings_of(name, SEEDS[0], Path("weights.safetensors"), bank).to_dict()
    for part in ("prototypes", "cam", "losses", "optimizer", "augment"):
        assert stated[part] == settings[part], part
    assert stated["loop"]["precision"] == PREVIEWS[name].precision
    for override in PREVIEWS[name].settings:
        assert override in command_of(name)


@pytest.mark.parametrize("name", [name for name, preview in PREVIEWS.items() if preview.beside])
def test_clustered_ones_differ_from_learnable_ones_in_prototypes_and_precision_alone(name):
    learnt = settings_of(PREVIEWS[name].beside, 0, Path("w"), precision="fp32").to_dict()
    clustered = settings_of(name, 0, Path("w"), Path("b")).to_dict()
    assert clustered.pop("prototypes")["source"] == "kmeans"
    learnt.pop("prototypes")
    assert clustered == learnt
