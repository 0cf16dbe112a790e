"""What the previews are trained on and with; the rest of a recipe is preset ``cpu``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        data: name of the tile set.
        notice: the one line that everybody who uses it is shown.
        settings: overrides of the preset.
        scored: splits whose scores are in the file and on the card.
        slides: seeds of phantom slides that are segmented whole.
        slides_said: what is to be said of their scores.
        source: of the prototypes: ``learnable``, or ``kmeans`` with a bank of the same tiles, encoder and seed.
        precision: that the shipped one was trained in.
        seeds: that were trained; the first is shipped.
        beside: name of the preview that this one was trained like, and is compared with on its card.
        retrained: whether that one was trained once more in this one's precision.
        beside_said: what else is to be said of the two.
    """

    data: str
    notice: str
    settings: tuple[str, ...] = ()
    scored: tuple[str, ...] = ("valid",)
    slides: tuple[int, ...] = ()
    slides_said: str = ""
    source: str = "learnable"
    precision: str = "bf16"
    seeds: tuple[int, ...] = SEEDS
    beside: str = ""
    retrained: bool = True
    beside_said: str = ""

    @property
    def clustered(self) -> bool:
        """Whether it needs a bank."""
        return self.source != "learnable"


def _clustered(name: str, seeds: tuple[int, ...], *, retrained: bool = True) -> Preview:
    """The same with clustered prototypes. In fp32: there was no bf16 where these were trained."""
    return replace(
        _LEARNABLE[name],
        source="kmeans",
        precision="fp32",
        seeds=seeds,
        slides_said="",
        beside=name,
        retrained=retrained,
    )


_LEARNABLE: Mapping[str, Preview] = {
    "luad224": Preview(
        "luad224",
        "Research use only: trained on WSSS4LUAD challenge tiles (terms not verified), "
        "encoder from ImageNet (Apache-2.0)",
        ("losses.pixels.weight=1",),
    ),
    "ocelot224": Preview(
        "ocelot224",
        "Research use only, non-commercial: trained on OCELOT 2023 tiles (treat as CC BY-NC-SA 4.0), "
        "encoder from ImageNet (Apache-2.0)",
    ),
    "phantom": Preview(
        "phantom",
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
        slides_said="Nothing shifts from phantom to phantom, so that there is nothing to adapt to, and adapting costs "
        "a little. The lowest slide, seed 11, has very little necrosis (0.3 % of it), whose IoU is low, and lower when "
        "adapted.",
    ),
}

#: By name: that of the tile set, and of the prototypes unless they are learnable.
PREVIEWS: Mapping[str, Preview] = {
    **_LEARNABLE,
    "luad224-kmeans": _clustered("luad224", (0, 2)),
    "phantom-kmeans": replace(
        _clustered("phantom", (0,), retrained=False),
        slides=(),
        beside_said="The tiles were drawn anew by the same command. Their fingerprint is another one, presumably "
        "because it counts bytes of files and PNG was packed otherwise: on these `valid` tiles the learnable one "
        "scores what its file states, to the last digit. ",
    ),
}


def settings_of(
    name: str, seed: int, encoder: Path, bank: Path | None = None, precision: str | None = None
) -> TrainConfig:
    """All settings of one training; with the bank that a clustered one needs, in another precision if one is given."""
    preview = PREVIEWS[name]
    overrides = [f"prototypes={{source: {preview.source}, bank: {bank}}}"] if preview.clustered else []
    overrides += [f"encoder.weights={encoder}", f"loop.precision={precision or preview.precision}"]
    return read_config(PRESET, overrides=[*overrides, *preview.settings, f"loop.seed={seed}"])


def command_of(name: str) -> str:
    """What a person types to repeat the shipped training."""
    preview = PREVIEWS[name]
    weights = f"encoder.weights={ENCODER_FILE}"
    lines: list[str] = []
    more: tuple[str, ...] = ()
    if preview.clustered:
        bank = f"runs/{name}-bank.safetensors"
        lines = [f"lpd bank --preset {PRESET} --data {preview.data} --out {bank} --set {weights}"]
        more = (f"'prototypes={{source: {preview.source}, bank: {bank}}}'",)
    words = [f"lpd train --preset {PRESET} --data {preview.data} --out runs/{name}"]
    words += [" ".join([f"--set loop.precision={preview.precision} {weights}", *preview.settings, *more])]
    return "\n".join([*lines, " \\\n  ".join(words)])
