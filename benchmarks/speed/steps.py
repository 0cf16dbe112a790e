"""Whole training steps: at equal arithmetic, where only the losses' form differs, and at each side's own settings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.speed.official import (
    SCALES,
    OfficialStep,
    OfficialTower,
    choose,
    merge_scores,
    pseudo_mask,
    spell_out_attention,
)
from benchmarks.speed.operations import count_operations
from benchmarks.speed.ours import OurStep, channels_last, default_settings, equal_settings
from benchmarks.speed.scene import Batch, Scene, aimed_network
from benchmarks.speed.timing import Row, compare
from lpd.model.network import LPDNet
from lpd.recipe.config import TrainConfig
from lpd.recipe.losses import SimilarityOptions

_EQUAL, _ENCODER = "ours, equal arithmetic", "encoder alone"
Work = Callable[[], object]
Step = TypeVar("Step", OfficialStep, OurStep)


def steps(scene: Scene) -> list[Row]:
    """Time steps without a tower for every K, and with one for the first."""
    batch = Batch.of(scene.tiles("valid"), scene.batch_size, scene.device)
    rows = []
    for per_class in scene.per_class:
        rows += _step(scene, batch, per_class)
    return rows + _step_with_tower(scene, batch, scene.per_class[0])


def _step(scene: Scene, batch: Batch, per_class: int) -> list[Row]:
    network = aimed_network(scene, batch, per_class)
    settings = equal_settings(scene.encoder, per_class, *_half(scene))
    whole = spell_out_attention(copy.deepcopy(network))
    work: dict[str, Work] = {
        "official": partial(_still(OfficialStep(copy.deepcopy(network), precision=scene.half)), *_plain(batch)),
        "official, its own attention": partial(_still(OfficialStep(whole, precision=scene.half)), *_plain(batch)),
        _EQUAL: _ours(network, settings, batch),
        **_defaults(scene, network, batch, per_class),
        _ENCODER: EncoderAlone(network, _plain(batch)[0], scene.half),
    }
    official, ours = OfficialStep(copy.deepcopy(network)), OurStep(copy.deepcopy(network), settings, batch.spec)
    regions = f"{official_regions(network, batch)} regions in L_div"
    notes = {
        "official": f"{regions}; {count_operations(lambda: official.losses(*_plain(batch)).total)}",
        _EQUAL: str(count_operations(lambda: ours.losses(*_plain(batch)).total)),
    }
    return _compared(scene, f"step, K {per_class}", work, notes)


def _step_with_tower(scene: Scene, batch: Batch, per_class: int) -> list[Row]:
    network = aimed_network(scene, batch, per_class)
    tower = OfficialTower(network.encoder)
    pairs = official_pairs(network, batch)
    frozen = copy.deepcopy(tower).requires_grad_(False)
    official = _still(OfficialStep(copy.deepcopy(network), tower, precision=scene.half))
    blind = _still(OfficialStep(copy.deepcopy(network), frozen, precision=scene.half, gradients=False))
    equal = SimilarityOptions(pair_cap=pairs, exclude_same_class=False, joint_threshold=True)
    work: dict[str, Work] = {
        "official": partial(official, *_plain(batch)),
        "official, tower without gradients": partial(blind, *_plain(batch)),
        _EQUAL: _ours(network, equal_settings(scene.encoder, per_class, *_half(scene)), batch, similarity=equal),
        **_defaults(scene, network, batch, per_class, SimilarityOptions(), "image masks, 32 pairs"),
        **_defaults(scene, network, batch, per_class, SimilarityOptions(masking="features"), "feature masks"),
    }
    named = int(batch.labels.sum()) * per_class
    notes = {"official": f"{pairs} pairs above their class's mean, of {named} that the labels name"}
    return _compared(scene, f"step with tower, K {per_class}", work, notes)


def _defaults(
    scene: Scene,
    network: LPDNet,
    batch: Batch,
    per_class: int,
    similarity: SimilarityOptions | None = None,
    name: str = "",
) -> dict[str, Work]:
    """Our step as a person gets it, in every precision that may be worth choosing."""
    variants: dict[str, tuple[str, ...]] = {p: (f"loop.precision={p}",) for p in scene.precisions}
    if scene.compiled:
        best = scene.precisions[-1]
        variants[f"{best}, compiled"] = (f"loop.precision={best}", "loop.compile=true")
    label = f"ours, defaults, {name}, " if name else "ours, defaults, "
    return {
        label + variant: _ours(
            network, default_settings(scene.encoder, per_class, *settings), batch, similarity=similarity, last=True
        )
        for variant, settings in variants.items()
    }


def _ours(
    network: LPDNet,
    config: TrainConfig,
    batch: Batch,
    *,
    similarity: SimilarityOptions | None = None,
    last: bool = False,
) -> Work:
    own = copy.deepcopy(network)
    step = _still(OurStep(channels_last(own) if last else own, config, batch.spec, similarity))
    images, labels = (batch.images, batch.labels) if last else _plain(batch)
    return partial(step, images, labels)


def _compared(scene: Scene, case: str, work: dict[str, Work], notes: dict[str, str]) -> list[Row]:
    return compare("step", case, work, scene.rounds, scene.clock, tiles=scene.batch_size, notes=notes)


def _still(step: Step) -> Step:
    """A step that does all its work and leaves the weights as they are, so that every round has the same to do."""
    for group in step.optimizer.param_groups:
        group["lr"] = 0.0
    return step


def _plain(batch: Batch) -> tuple[Tensor, Tensor]:
    """Images as the authors' loader lays them out: channels first."""
    return batch.images.contiguous(), batch.labels


def _half(scene: Scene) -> tuple[str, ...]:
    return () if scene.half is None else ("loop.precision=bf16",)


class EncoderAlone:
    """What both algorithms do in any case, and nothing can save: an encoder forward and backward."""

    def __init__(self, network: LPDNet, images: Tensor, precision: torch.dtype | None) -> None:
        self._encoder, self._images, self._precision = copy.deepcopy(network.encoder), images, precision

    def __call__(self) -> None:
        """Do it once."""
        self._encoder.zero_grad(set_to_none=True)
        with torch.autocast(self._images.device.type, self._precision, enabled=self._precision is not None):
            maps: list[Tensor] = self._encoder(self._images)
        torch.autograd.backward(maps, [torch.ones_like(m) for m in maps])


def official_pairs(network: LPDNet, batch: Batch) -> int:
    """How many pairs the authors' rule chooses in a batch."""
    classes, per_class = batch.labels.shape[1], network.config.prototypes_per_class
    scores = _deepest_logits(network, batch.images).mean((2, 3))
    return int(choose(scores, merge_scores(scores, classes, per_class), batch.labels, per_class).sum())


def official_regions(network: LPDNet, batch: Batch) -> int:
    """How many (image, class) regions the authors' diversity loss finds in a batch."""
    classes, per_class = batch.labels.shape[1], network.config.prototypes_per_class
    cams = _deepest_logits(network, batch.images)
    mask = pseudo_mask(cams, classes, per_class, cams.shape[2:])
    return sum(int((image == c).any()) for image in mask for c in range(classes))


@torch.no_grad()
def _deepest_logits(network: LPDNet, images: Tensor) -> Tensor:
    """Without drop path, and leaving the network as it was."""
    training = network.training
    logits: Tensor = network.eval()(images).prototype_logits[SCALES[-1]]
    network.train(training)
    return logits
