"""What is compared: every arm is the same training but for the settings that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Settings of all arms, by data set. Fixed beforehand; every arm gets the same schedule.
RECIPES: Mapping[str, tuple[str, ...]] = {
    "luad224": ("optimizer.epochs=8", "loop.precision=bf16", "losses.pixels.weight=0"),
    "ocelot224": ("optimizer.epochs=8", "loop.precision=bf16", "losses.pixels.weight=0"),
}
PRESET = "cpu"

#: The arm that every other one is compared with.
BASELINE = "plain CAM"


@dataclass(frozen=True)
class Arm:
    """One line of the study.

    Attributes:
        question: what it is there to answer.
        settings: overrides of the common recipe.
        bank: whether it needs a bank of clustered prototypes.
        trained: False for the network as it starts.
        masks: whether masks of other valid tiles are learnt too, see :mod:`benchmarks.study.ceiling`.
    """

    question: str
    settings: tuple[str, ...] = ()
    bank: bool = False
    trained: bool = True
    masks: bool = False


_LINEAR = ("prototypes.source=linear", "prototypes.per_class=1", "losses.diversity.weight=0")
_PIXELS = "losses.pixels.weight=1"

ARMS: Mapping[str, Arm] = {
    BASELINE: Arm("a linear head, fine-tuned alike: does a prototype help at all?", _LINEAR),
    "LPD": Arm("the corrected method of the paper: K = 3, λ_div = 0.5, L_sim off"),
    "LPD, L_pix": Arm("the same with L_pix (λ_pix = 1): classes compete for pixels", (_PIXELS,)),
    "plain CAM, L_pix": Arm("is L_pix of use without prototypes?", (*_LINEAR, _PIXELS)),
    "LPD, L_pix, union": Arm(
        "maps of a class's prototypes merged by log mean exp, not by their mean", (_PIXELS, "cam.merge=union")
    ),
    "LPD, λ_div 0": Arm("what the diversity loss does", ("losses.diversity.weight=0",)),
    "LPD, official L_div": Arm(
        "what the authors' form of it does (prototypes as long as the deepest map, which it needs)",
        ("losses.diversity.variant=official", "prototypes.dim=320"),
    ),
    "LPD, L_sim own": Arm(
        "what the contrast with a frozen copy of the encoder does",
        ("losses.similarity.tower=own", "losses.similarity.masking=features"),
    ),
    "k-means": Arm("clustered prototypes, fixed (PBIP)", ("prototypes.source=kmeans",), bank=True),
    "k-means start": Arm("clustered prototypes that learn", ("prototypes.source=kmeans_init",), bank=True),
    "LPD, K 1": Arm("one prototype a class", ("prototypes.per_class=1",)),
    "LPD, K 10": Arm("ten prototypes a class", ("prototypes.per_class=10",)),
    "LPD, random encoder": Arm(
        "what ImageNet gives", ("encoder.weights=none", "encoder.frozen=[]", "encoder.freeze_norm=false")
    ),
    "LPD, L_pix, with masks": Arm(
        "the ceiling: as before, also learning the masks of three quarters of valid and scored on the last, four times",
        (_PIXELS,),
        masks=True,
    ),
    "untrained": Arm("the figures of a network that learnt nothing", trained=False),
}
