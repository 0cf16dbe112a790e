"""What the previews are trained on and with; the rest of a recipe is preset ``cpu``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lpd.training.config import TrainConfig
from lpd.training.settings_file import read_config

PRESET = "cpu"
ENCODER_FILE = "mobilenetv2_100-imagenet.safetensors"
#: The first is shipped, whatever the others score.
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Preview:
    """One shipped checkpoint.

    Attributes:
        notice: the one line that everybody who uses it is shown.
        settings: overrides of the preset.
        scored: splits whose scores are in the file and on the card.
        slides: seeds of phantom slides that are segmented whole.
    """

    notice: str
    settings: tuple[str, ...] = ()
    scored: tuple[str, ...] = ("valid",)
    slides: tuple[int, ...] = ()


PREVIEWS: Mapping[str, Preview] = {
    "luad224": Preview(
        "Research use only: trained on WSSS4LUAD challenge tiles (terms not verified), "
        "encoder from ImageNet (Apache-2.0)",
        ("losses.pixels.weight=1",),
    ),
    "ocelot224": Preview(
        "Research use only, non-commercial: trained on OCELOT 2023 tiles (treat as CC BY-NC-SA 4.0), "
        "encoder from ImageNet (Apache-2.0)"
    ),
    "phantom": Preview(
        "Synthetic: trained on drawn tissue, for tests and demonstrations only; it knows nothing about real slides",
        (
            "encoder.frozen=[conv_stem,bn1,blocks.0]",
            "optimizer.epochs=4",
            "optimizer.learning_rate=2e-4",
            "cam.loss_weights=[1,1,0.5]",
            "cam.fusion_weights=[0.5,0.5,0]",
        ),
        scored=("valid", "test"),
        slides=(1, 2, 3, 4, 5, 11),
    ),
}


def settings_of(data: str, seed: int, encoder: Path) -> TrainConfig:
    """All settings of one training."""
    overrides = [f"encoder.weights={encoder}", "loop.precision=bf16", *PREVIEWS[data].settings, f"loop.seed={seed}"]
    return read_config(PRESET, overrides=overrides)


def command_of(data: str) -> str:
    """What a person types to repeat the shipped training."""
    words = [f"lpd train --preset {PRESET} --data {data} --out runs/{data}"]
    words += [" ".join([f"--set loop.precision=bf16 encoder.weights={ENCODER_FILE}", *PREVIEWS[data].settings])]
    return " \\\n  ".join(words)
