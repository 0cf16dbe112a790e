"""L_sim as a training sees it: against loops over pairs and pixels, who gets which gradient, what is saved."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lpd.errors import ConfigError, ShapeError
from lpd.losses.pairs import select_pairs
from lpd.model.encoders import build_encoder
from lpd.model.towers import Tower, own_tower
from lpd.recipe.losses import SimilarityOptions
from lpd.training.similarity import SimilarityTerm

B, C, K, P, H = 3, 3, 2, 5, 8
M = C * K
LABELS = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0]])
TINY_MIT = (("depths", (1, 1, 1, 1)), ("embed_dims", (8, 16, 20, 32)), ("drop_path_rate", 0.5))


class ColourTower(Tower):
    """Sees the mean colour and its square, which tells a masked image from a part; counts the images shown."""

    dim = 6

    def __init__(self) -> None:
        super().__init__(nn.Identity(), "colours")
        self.shown = 0

    def _embed(self, images: Tensor) -> Tensor:
        return self._maps(images).mean((2, 3))

    def _maps(self, images: Tensor) -> Tensor:
        self.shown += len(images)
        return torch.cat([images, images**2], dim=1)

    def _finish(self, pooled: Tensor) -> Tensor:
        return pooled


class Batch:
    """Images, prototypes, CAMs and labels of a step."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(B, 3, H, H, generator=generator)
        self.prototypes = torch.randn(M, P, generator=generator).requires_grad_()
        self.cams = (torch.rand(B, M, 4, 4, generator=generator) - 0.5).requires_grad_()
        self.labels = LABELS

    def losses(self, term: SimilarityTerm, seed: int = 0) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return term(self.images, self.prototypes, self.cams, self.labels, generator)


def make(tower: Tower | None = None, **options: Any) -> SimilarityTerm:
    torch.manual_seed(0)
    return SimilarityTerm(
        tower or ColourTower(),
        prototype_dim=P,
        class_count=C,
        prototypes_per_class=K,
        options=SimilarityOptions(**options),
    )


def by_loop(
    batch: Batch, term: SimilarityTerm, pairs: list[tuple[int, int]], masking: str = "image", siblings: bool = False
) -> tuple[float, float]:
    """L_FG and L_BG over (image, prototype) pairs, from the equations, pixel by pixel."""
    threshold, tau = term.options.threshold, term.options.temperature
    towards = [[float(v) for v in term.projection.weight.detach() @ p] for p in batch.prototypes.detach()]
    foreground, background = [], []
    for b, m in pairs:
        cam = batch.cams[b, m].detach().double()
        stretched = (cam - cam.min()) / (cam.max() - cam.min())
        for losses, wanted in ((foreground, True), (background, False)):
            pixels = [
                batch.images[b, :, y, x].tolist() if bool(stretched[y // 2, x // 2] >= threshold) == wanted else None
                for y in range(H)
                for x in range(H)
            ]
            seen = [p or [0.0, 0.0, 0.0] for p in pixels] if masking == "image" else [p for p in pixels if p]
            u = [sum(p[i] for p in seen) / len(seen) for i in range(3)]
            u += [sum(p[i] ** 2 for p in seen) / len(seen) for i in range(3)]
            logits = [cosine(u, p) / tau for p in towards]
            rivals = [math.exp(v) for j, v in enumerate(logits) if (j != m if siblings else j // K != m // K)]
            d = logits[m] - math.log(sum(rivals))
            losses.append(math.log1p(math.exp(-d if wanted else d)))
    return sum(foreground) / len(pairs), sum(background) / len(pairs)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("siblings", [False, True])
@pytest.mark.parametrize("masking", ["image", "features"])
def test_losses_against_loops(masking, siblings):
    batch = Batch()
    term = make(masking=masking, pair_cap=0, exclude_same_class=not siblings, threshold=0.3, temperature=0.2)
    found = batch.losses(term)
    pairs = [(b, m) for b in range(B) for m in range(M) if LABELS[b, m // K]]
    assert (found.foreground.item(), found.background.item()) == pytest.approx(
        by_loop(batch, term, pairs, masking, siblings), rel=1e-4
    )
    cam_mean = sum(batch.cams.flatten().tolist()) / batch.cams.numel()
    assert found.cam_mean.item() == pytest.approx(cam_mean, rel=1e-5)
    expected = found.foreground.item() + found.background.item() + 5e-4 * cam_mean
    assert found.total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("masking", ["image", "features"])
def test_gradients_reach_prototypes_and_projection_but_cams_through_their_mean_only(masking):
    batch, tower = Batch(), own_tower(build_encoder("mit_b0", options=TINY_MIT), pretrained=True)
    batch.images = torch.randn(B, 3, 64, 64).requires_grad_()
    term = make(tower, masking=masking, cam_penalty=0.25)
    found = batch.losses(term)
    learning = [batch.prototypes, term.projection.weight]
    for loss in (found.foreground, found.background):
        for gradient in torch.autograd.grad(loss, learning, retain_graph=True):
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 1e-3
        assert torch.autograd.grad(loss, [batch.cams], allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(found.cam_mean, learning, allow_unused=True, retain_graph=True) == (None, None)
    found.total.backward()
    torch.testing.assert_close(batch.cams.grad, torch.full_like(batch.cams, 0.25 / batch.cams.numel()))
    assert batch.images.grad is None
    assert all(p.grad is None for p in tower._network.parameters())


def test_every_prototype_of_a_present_class_is_moved():
    batch = Batch()
    batch.losses(make(pair_cap=0)).total.backward()
    assert (batch.prototypes.grad.norm(dim=1) > 0).all()


@pytest.mark.parametrize("masking", ["image", "features"])
def test_the_loss_falls_on_a_fixed_batch(masking):
    batch, term = Batch(), make(masking=masking, pair_cap=0)
    optimizer = torch.optim.Adam([batch.prototypes, *term.parameters()], lr=0.03)
    before = batch.losses(term)
    for _ in range(60):
        optimizer.zero_grad()
        batch.losses(term).total.backward()
        optimizer.step()
    after = batch.losses(term)
    assert after.total < 0.8 * before.total


def test_what_is_saved_and_trained_is_the_projection_alone():
    tower = own_tower(build_encoder("mit_b0", options=TINY_MIT), pretrained=True)
    term = make(tower)
    assert term.state_dict().keys() == {"projection.weight"}
    assert [name for name, _ in term.named_parameters()] == ["projection.weight"]
    term.train()
    assert not any(m.training for m in tower._network.modules())
    batch = Batch()
    batch.images = torch.randn(B, 3, 64, 64)
    assert batch.losses(term).total == batch.losses(term).total  # no drop path in the tower
    other = make(ColourTower())
    other.projection = nn.Linear(P, tower.dim, bias=False)
    other.load_state_dict(term.state_dict())
    assert torch.equal(other.projection.weight, term.projection.weight)


def test_the_tower_follows_to_a_device():
    tower = own_tower(build_encoder("mit_b0", options=TINY_MIT), pretrained=True)
    nn.ModuleDict({"similarity": make(tower)}).to("meta")
    assert {p.device.type for p in tower._network.parameters()} == {"meta"}


@pytest.mark.parametrize("dim", [3, 6, 10])
def test_projection_starts_as_identity_or_keeps_angles(dim):
    term = SimilarityTerm(ColourTower(), prototype_dim=dim, class_count=2, prototypes_per_class=1)
    weight = term.projection.weight.detach()
    assert weight.shape == (6, dim)
    assert term.projection.bias is None
    if dim == 6:
        assert torch.equal(weight, torch.eye(6))
    gram = weight.T @ weight if dim <= 6 else weight @ weight.T
    torch.testing.assert_close(gram, torch.eye(min(dim, 6)), rtol=0, atol=1e-5)


def test_one_class_has_nothing_to_be_told_from():
    with pytest.raises(ConfigError, match="needs 2 of them, not 1: switch it off"):
        SimilarityTerm(ColourTower(), prototype_dim=P, class_count=1, prototypes_per_class=6)


@pytest.mark.parametrize(("masking", "passes"), [("image", 2 * 4), ("features", B)])
def test_the_cap_bounds_the_towers_work(masking, passes):
    tower = ColourTower()
    Batch().losses(make(tower, masking=masking, pair_cap=4))
    assert tower.shown == passes


def test_the_generator_draws_the_pairs():
    batch, term = Batch(), make(pair_cap=3)
    assert batch.losses(term, seed=1).total == batch.losses(term, seed=1).total
    assert len({batch.losses(term, seed=s).total.item() for s in range(5)}) > 1


def test_without_any_class_only_the_penalty_is_left():
    batch, tower = Batch(), ColourTower()
    batch.labels = torch.zeros(B, C)
    found = batch.losses(make(tower))
    assert (found.foreground.item(), found.background.item()) == (0, 0)
    found.total.backward()
    assert not batch.prototypes.grad.any()
    assert tower.shown == 0


def test_a_constant_cam_shows_the_whole_image_and_says_nothing_of_a_background():
    """Prototypes 0 and 1 of class 0 in image 0; the second CAM is constant."""
    batch = Batch()
    batch.labels = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    with torch.no_grad():
        batch.cams[0, 1] = -0.3
    term = make(pair_cap=0)
    found = batch.losses(term)
    assert found.background.item() == pytest.approx(by_loop(batch, term, [(0, 0)])[1], rel=1e-4)
    assert torch.autograd.grad(found.foreground, batch.prototypes)[0][1].abs().max() > 0


def test_float32_margins_under_autocast():
    batch, term = Batch(), make()
    expected = batch.losses(term)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = batch.losses(term)
    assert (found.foreground, found.background, found.total) == (
        expected.foreground,
        expected.background,
        expected.total,
    )
    assert found.total.dtype == torch.float32


def test_joint_threshold_counts_blank_images():
    """The official rule: one strong prototype empties the mask of every other, which then is a blank image."""
    batch = Batch()
    with torch.no_grad():
        batch.cams[:, 0, 0, 0] = 14.0
    images, prototypes = select_pairs(LABELS, K, 0, torch.Generator().manual_seed(0))
    own, joint = (batch.losses(make(pair_cap=0, joint_threshold=j)) for j in (False, True))
    assert own.foreground != joint.foreground
    # A blank image is at cosine 0 to all: d = −log(negatives); a corner of 14 is all that prototype 0 marks.
    blanks = sum(m != 0 for m in prototypes.tolist())
    assert blanks == len(images) - 2
    batch.labels = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    only_blank = batch.losses(make(pair_cap=0, joint_threshold=True))
    assert only_blank.foreground.item() == pytest.approx(math.log1p(M - K), rel=1e-6)


def test_siblings_as_negatives_change_the_loss():
    batch = Batch()
    assert batch.losses(make()).foreground < batch.losses(make(exclude_same_class=False)).foreground


@pytest.mark.parametrize(
    ("name", "value"), [("pair_cap", -1), ("threshold", 1.5), ("temperature", 0.0), ("cam_penalty", -1.0)]
)
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        SimilarityOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("images", (B, H, H)),
        ("prototypes", (M, P + 1)),
        ("cams", (B, M + 1, 4, 4)),
        ("labels", (B + 1, C)),
        ("labels", (B,)),
    ],
)
def test_wrong_shapes_are_refused(name, shape):
    batch = Batch()
    setattr(batch, name, torch.zeros(shape))
    with pytest.raises(ShapeError, match="are not those of 3 classes with 2 prototypes of 5"):
        batch.losses(make())


@pytest.mark.parametrize("masking", ["image", "features"])
def test_the_tower_computes_in_half_precision_and_the_losses_do_not(masking):
    term = make(own_tower(build_encoder("test_convnext"), pretrained=True), masking=masking, pair_cap=0)
    batch = Batch()
    batch.images = torch.rand(B, 3, 64, 64)
    generator = torch.Generator().manual_seed(0)
    exact = batch.losses(term)
    seen = []
    next(m for m in term.tower._network.modules() if isinstance(m, torch.nn.Conv2d)).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.dtype)
    )
    half = term(batch.images, batch.prototypes, batch.cams, batch.labels, generator, torch.bfloat16)
    assert set(seen) == {torch.bfloat16}
    assert half.total.dtype == torch.float32
    assert half.total.item() == pytest.approx(exact.total.item(), rel=0.05)
