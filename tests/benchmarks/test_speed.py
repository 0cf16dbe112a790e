"""The speed benchmark: the restated algorithm computes what it claims, turns are taken, and every part runs."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.speed.__main__ import PARTS, main
from benchmarks.speed.losses import ContrastInput, DiversityInput, differences
from benchmarks.speed.official import (
    OfficialStep,
    OfficialTower,
    choose,
    joint_masks,
    masked_embeddings,
    mean_similarity,
    merge_scores,
    pseudo_mask,
    spell_out_attention,
)
from benchmarks.speed.operations import Operations, count_operations
from benchmarks.speed.ours import OurStep, default_settings, equal_settings
from benchmarks.speed.scene import Batch, Scene, aimed_network
from benchmarks.speed.steps import official_pairs, official_regions
from benchmarks.speed.timing import Clock, compare, quartiles, take_turns
from lpd.losses.pairs import prototype_masks

CLASSES, PX = 3, 96
SCENE = Scene(Path(), encoder="mit_b0", batch_size=4, per_class=(3,), rounds=1)
_YAML = "name: t\nmpp: 1.0\nclasses:\n" + "".join(
    f"  - {{code: {c}, name: {c}, color: [{80 * i}, 0, 9]}}\n" for i, c in enumerate("ABC")
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of two textures side by side."""
    folder = tmp_path_factory.mktemp("speed") / "tiles"
    rng = np.random.default_rng(0)
    for name in ("train", "valid/img", "valid/mask"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.yaml").write_text(_YAML + "background: 3\nlicence: synthetic\n")
    for index in range(8):
        mask = np.full((PX, PX), index % CLASSES, dtype=np.uint8)
        mask[:, PX // 2 :] = (index + 1) % CLASSES
        image = (rng.random((PX, PX, 3)) * (mask[..., None] + 1) * 80).astype(np.uint8)
        digits = "".join(str(int(c in mask)) for c in range(CLASSES))
        Image.fromarray(image).save(folder / "train" / f"t{index}[{digits}].png")
        Image.fromarray(image).save(folder / "valid" / "img" / f"v{index}.png")
        Image.fromarray(mask).save(folder / "valid" / "mask" / f"v{index}.png")
    return folder


@pytest.fixture
def batch(tiles: Path) -> Batch:
    return Batch.of(replace(SCENE, folder=tiles).tiles("valid"), 4, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_both_algorithms_give_one_loss_and_one_gradient_at_equal_arithmetic(batch: Batch):
    network = aimed_network(SCENE, batch, 3).eval()  # without drop path, which is drawn anew in each
    assert official_regions(network, batch) > 4, "the official loops would have nothing to do"
    official = OfficialStep(copy.deepcopy(network))
    ours = OurStep(copy.deepcopy(network), equal_settings("mit_b0", 3), batch.spec)
    theirs, own = (step.losses(batch.images, batch.labels) for step in (official, ours))
    for part in ("classification", "diversity", "total"):
        assert getattr(own, part).item() == pytest.approx(getattr(theirs, part).item(), rel=1e-5)
    theirs.total.backward()
    own.total.backward()
    expected = dict(official.network.named_parameters())
    for name, parameter in ours.network.named_parameters():
        other = expected[name].grad
        assert torch.allclose(parameter.grad, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-8), name


def test_attention_spelled_out_gives_the_same_maps(batch: Batch):
    network = aimed_network(SCENE, batch, 3).eval()
    spelled = spell_out_attention(copy.deepcopy(network))
    with torch.no_grad():
        for one, other in zip(network.encoder(batch.images), spelled.encoder(batch.images), strict=True):
            assert torch.allclose(one, other, atol=1e-4)
    fused, whole = (count_operations(lambda n=n: n.encoder(batch.images)[-1].sum()) for n in (network, spelled))
    assert whole.count > fused.count + 8 * 3, "three operations more in each of eight blocks, at the very least"


def test_an_aimed_network_marks_what_the_tiles_show(batch: Batch):
    network = aimed_network(SCENE, batch, 3).eval()
    with torch.no_grad():
        logits = network(batch.images).class_logits[3]
    inside = functional.interpolate(batch.regions, logits.shape[2:], mode="area") > 0.5
    for c in range(CLASSES):
        assert logits[:, c][inside[:, c]].mean() > logits[:, c][~inside[:, c]].mean() + 0.5


def test_our_default_step_drops_the_first_scale_and_keeps_the_others(batch: Batch):
    network = aimed_network(SCENE, batch, 3).eval()
    step = OurStep(copy.deepcopy(network), default_settings("mit_b0", 3), batch.spec)
    assert step.network.config.scales == (1, 2, 3)
    whole, kept = network(batch.images), step.network(batch.images)
    for scale in (1, 2, 3):
        assert torch.equal(whole.class_logits[scale], kept.class_logits[scale])


def test_steps_move_the_weights(batch: Batch):
    network = aimed_network(SCENE, batch, 3)
    before = network.prototypes.detach().clone()
    halves = [torch.bfloat16] if "bf16" in SCENE.precisions else []  # without instructions for it a step takes minutes
    for step in (
        OfficialStep(copy.deepcopy(network), OfficialTower(network.encoder)),
        *(OfficialStep(copy.deepcopy(network), OfficialTower(network.encoder), precision=half) for half in halves),
        OurStep(copy.deepcopy(network), default_settings("mit_b0", 3), batch.spec),
    ):
        losses = step(batch.images, batch.labels)
        assert math.isfinite(losses.total.item())
        assert not torch.equal(step.network.prototypes, before)


def test_the_official_tower_is_reached_by_gradients_unless_told_otherwise(batch: Batch):
    network = aimed_network(SCENE, batch, 3)
    assert official_pairs(network, batch) > 0
    for gradients in (True, False):
        tower = OfficialTower(network.encoder)
        losses = OfficialStep(copy.deepcopy(network), tower, gradients=gradients)(batch.images, batch.labels)
        assert losses.pairs > 0
        assert losses.similarity.item() > 0
        assert any(p.grad is not None for p in tower.parameters()) == gradients


def test_the_contrast_is_a_cross_entropy_and_both_algorithms_know_it():
    pairs = ContrastInput.random(SCENE, 3)
    own = pairs.chosen.nonzero()[:, 1]
    logits = [
        functional.cosine_similarity(side[:, None], pairs.prototypes[None], dim=2) / 0.07
        for side in (pairs.foreground, pairs.background)
    ]
    # L_BG asks that the prototype be none of the picture: the chance of any other one.
    others = 1 - logits[1].double().softmax(1).gather(1, own[:, None])
    expected = functional.cross_entropy(logits[0], own) - others.log().mean()
    assert pairs.official().item() == pytest.approx(expected.item(), rel=1e-5)
    assert pairs.same().item() == pytest.approx(expected.item(), rel=1e-5)


def test_both_diversity_losses_agree_in_value_and_gradient():
    tensors = DiversityInput.random(SCENE, 14, 32, 3)
    work = [
        lambda f=f: (f().detach(), torch.autograd.grad(f(), tensors.leaves)) for f in (tensors.official, tensors.same)
    ]
    loss, gradient = differences(work[0], work[1])
    assert loss < 1e-6
    assert gradient < 1e-3
    assert tensors.corrected().item() < 0.9 < tensors.official().item()  # the second softmax makes all alike


def test_similarity_of_two_distributions_by_hand():
    # A softmax of logarithms gives the shares back: (3/4, 1/4) and (1/4, 3/4), J = 2 · (1/2) · log 3 = log 3.
    attention = [torch.tensor([0.75, 0.25]).log(), torch.tensor([0.25, 0.75]).log()]
    assert mean_similarity(attention).item() == pytest.approx(1 / 3, rel=1e-5)
    assert mean_similarity(attention[:1]).item() == 0


def test_prototypes_above_the_mean_of_a_named_class_are_chosen():
    scores = torch.tensor([[1.0, 2.0, 6.0, 5.0, 4.0, 3.0]])
    merged = merge_scores(scores, 2, 3)
    assert merged.tolist() == [[3.0, 4.0]]
    assert choose(scores, merged, torch.tensor([[1.0, 1.0]]), 3).tolist() == [[0, 0, 1, 1, 0, 0]]
    assert choose(scores, merged, torch.tensor([[0.0, 1.0]]), 3).tolist() == [[0, 0, 0, 1, 0, 0]]


def test_the_pseudo_mask_counts_background_first():
    logits = torch.tensor([[0.1, 0.3, -1.0], [-2.0, 0.25, 5.0]])[None, :, None]  # (1, C, 1, 3)
    assert pseudo_mask(logits, 2, 1, (1, 3)).tolist() == [[[0, 1, 2]]]


def test_masks_are_joint_over_the_prototypes_of_an_image():
    cams = torch.randn(2, 4, 6, 6)
    images, prototypes = torch.arange(2).repeat_interleave(4), torch.arange(4).repeat(2)
    expected = prototype_masks(cams, images, prototypes, joint=True).reshape(cams.shape)
    assert torch.equal(joint_masks(cams).bool(), expected)


def test_pictures_are_weighed_by_the_cam_inside_and_outside_of_the_mask():
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    cams = torch.zeros(1, 1, 2, 2)
    cams[0, 0, 0] = torch.tensor([4.0, 3.0])  # half of 4 is reached in the upper row only
    foreground, background = masked_embeddings(torch.ones(1, 3, 2, 2), cams, torch.ones(1, 1), Mean())  # type: ignore[arg-type]
    assert foreground.tolist() == [[7 / 4] * 3]
    assert background.tolist() == [[2 / 4] * 3]


class _Fake(Clock):
    """Time passes only where a contestant says so."""

    seconds = 0.0

    def now(self) -> float:
        return type(self).seconds


def _takes(name: str, seconds: float, diary: list[str]):
    def work() -> None:
        diary.append(name)
        _Fake.seconds += seconds

    return work


def test_operations_are_counted_there_and_back_without_views():
    def counted(loss: Callable[[torch.Tensor], torch.Tensor]) -> Operations:
        leaf = torch.ones(2, 3, requires_grad=True)
        return count_operations(lambda: loss(leaf))

    one = counted(lambda x: x.exp().sum())
    assert counted(lambda x: x.t().exp().sum()) == one, "a transposition computes nothing"
    assert counted(lambda x: x.exp().exp().sum()).count == one.count + 2, "an exponential and its derivative"
    assert one.waits == 0
    assert counted(lambda x: x.sum() * float(x.detach().sum())).waits == 1
    assert counted(lambda x: x[(x > 0).nonzero()[:, 0]].sum()).waits == 1


def test_contestants_take_turns_and_the_first_round_does_not_count():
    diary: list[str] = []
    clock = _Fake(torch.device("cpu"), busy=False)
    seconds = take_turns({"a": _takes("a", 2, diary), "b": _takes("b", 1, diary)}, 2, clock)
    assert diary == ["a", "b"] * 3
    assert seconds == {"a": [2, 2], "b": [1, 1]}


def test_ratios_are_of_rates_where_the_numbers_of_tiles_differ():
    clock = _Fake(torch.device("cpu"), busy=False)
    slow, fast = _takes("slow", 4, []), _takes("fast", 2, [])
    rows = compare("part", "case", {"slow": slow, "fast": fast}, 3, clock, tiles={"slow": 10, "fast": 20})
    assert [(row.ms, row.ratio, row.tiles_per_s) for row in rows] == [(4000, 1, 2.5), (2000, 4, 10)]
    assert compare("part", "case", {"slow": slow, "fast": fast}, 1, clock)[1].ratio == 2


def test_quartiles_by_hand():
    assert quartiles([5, 1, 2, 4, 3]) == (2, 3, 4)
    assert quartiles([7]) == (7, 7, 7)


def test_every_part_runs_and_reports(tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = tmp_path / "speed.json"
    main(["--quick", "--parts", *PARTS, "--data", str(tiles), "--json", str(told)])
    rows = json.loads(told.read_text())["rows"]
    assert {row["part"] for row in rows} == set(PARTS)
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in rows)
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in rows)
    assert "minutes" in shown
