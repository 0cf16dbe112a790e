"""The cards of the shipped previews: what their generator writes, for files that say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.previews.card import card
from benchmarks.previews.previews import PREVIEWS, SEEDS, command_of, settings_of
from lpd.model.header import CheckpointInfo, read_info

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


def shipped(data: str) -> CheckpointInfo:
    return read_info(SHIPPED / f"{data}-learnable-mobilenetv2_100.safetensors")


@pytest.mark.parametrize("data", PREVIEWS)
def test_a_shipped_card_is_the_generators_own(data):
    info = shipped(data)
    kept = info.path.with_suffix(".md").read_text(encoding="utf-8")
    measured = [block for block in kept.split("\n\n") if block.startswith("| prototypes |")]
    assert bool(measured) == bool(PREVIEWS[data].slides)
    more = {"slides": measured[0]} if measured else {}
    written = card(data, info, dict.fromkeys(SEEDS, info.scores["valid"]), more)
    before, _, after = written.partition("| seed |")
    assert kept.startswith(before)
    assert kept.endswith(after[after.index("\n\n") :])
    first = next(line for line in after.splitlines() if line.startswith(f"| {SEEDS[0]} |"))
    assert first in kept  # the seed that is shipped


@pytest.mark.parametrize("data", PREVIEWS)
def test_the_command_on_the_card_has_the_settings_of_the_file(data):
    settings = settings_of(data, SEEDS[0], Path("weights.safetensors")).to_dict()
    stated = shipped(data).training["settings"]
    for part in ("prototypes", "cam", "losses", "optimizer", "augment"):
        assert stated[part] == settings[part], part
    for override in PREVIEWS[data].settings:
        assert override in command_of(data)
