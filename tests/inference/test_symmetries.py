"""Test-time augmentation: eight ways to lay a square, each undone; the mask turns and mirrors with the slide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpd.inference.store import ResultStore
from lpd.inference.symmetries import SYMMETRIES, SymmetricBackend

from .conftest import ColourBackend, Segment, paint_slide, whole_mask

#: 64 px windows every 32: this size holds a whole number of strides, so that the grid of windows mirrors onto itself.
WIDTH, HEIGHT = 320, 256
CHOICES = {"mpp": 1.0, "tissue": "all", "window_px": 64, "stride_px": 32}


class LeaningBackend(ColourBackend):
    """Sees everything two cells further to the right and one further down than it is; as sure as what lies above."""

    def logits(self, windows):
        pixel, presence = super().logits(windows)
        seen = torch.nn.functional.pad(pixel, (2, 0, 1, 0), mode="replicate")[..., : pixel.shape[2], : pixel.shape[3]]
        return seen, presence + seen

    def adapted(self, windows):
        self.sampled = list(windows)
        return LeaningSwapped(self.info.path) if self.swaps else None


class LeaningSwapped(LeaningBackend):
    """Takes red for green and green for red."""

    def logits(self, windows):
        pixel, presence = super().logits(windows)
        return pixel[:, [1, 0, 2]], presence


@pytest.fixture
def leaning(backend: ColourBackend) -> LeaningBackend:
    return LeaningBackend(backend.info.path)


@pytest.fixture
def picture(tmp_path) -> np.ndarray:
    return paint_slide(tmp_path / "part.png")[150 : 150 + HEIGHT, 400 : 400 + WIDTH]


def test_there_are_eight_and_each_is_undone():
    picture = np.random.default_rng(0).integers(0, 255, (2, 5, 5, 3), dtype=np.uint8)
    moved = [symmetry.of(picture) for symmetry in SYMMETRIES]
    assert len({m.tobytes() for m in moved}) == 8
    assert (moved[0] == picture).all()
    for symmetry, pixels in zip(SYMMETRIES, moved, strict=True):
        assert pixels.flags.c_contiguous
        maps = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        original = torch.from_numpy(picture).permute(0, 3, 1, 2)
        assert torch.equal(symmetry.back(maps), original)
        assert torch.equal(symmetry.moved(original), maps)


def test_the_mean_of_all_eight_counts(leaning):
    window = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    pixel, presence = SymmetricBackend(leaning).logits(window)
    totals = [torch.zeros_like(pixel), torch.zeros_like(presence)]
    for exchanged in (False, True):
        for axes in ((), (1,), (2,), (1, 2)):
            moved = np.ascontiguousarray(np.flip(window.transpose(0, 2, 1, 3) if exchanged else window, axes))
            for total, answer in zip(totals, leaning.logits(moved), strict=True):
                back = answer.flip([axis + 1 for axis in axes])
                total += back.transpose(2, 3) if exchanged else back
    torch.testing.assert_close(pixel, totals[0] / 8)
    torch.testing.assert_close(presence, totals[1] / 8)
    assert not torch.allclose(pixel, leaning.logits(window)[0], atol=0.1)


@pytest.mark.parametrize("swaps", [False, True], ids=["plain", "adapted"])
@pytest.mark.parametrize("move", [lambda a: a[:, ::-1], lambda a: a[::-1], lambda a: a.swapaxes(0, 1)])
def test_the_mask_of_a_moved_slide_is_the_moved_mask(segment: Segment, leaning, picture, move, swaps):
    leaning.swaps = swaps

    def masks(**choices: object) -> list[np.ndarray]:
        pictures = (picture, np.ascontiguousarray(move(picture)))
        return [whole_mask(segment(pixels=p, using=leaning, **CHOICES, **choices)[0]) for p in pictures]

    plain, of_moved = masks()
    assert (move(plain) != of_moved).mean() > 0.01
    averaged, of_moved = masks(tta=True)
    assert len(np.unique(averaged)) == 3
    # Sums of eight numbers in another order: a tie may fall the other way.
    assert (move(averaged) == of_moved).mean() > 0.9999


def test_prototypes_are_taken_from_all_eight(segment: Segment, leaning, picture):
    segment(pixels=picture, using=leaning, **CHOICES)
    once = len(leaning.sampled)
    segment(pixels=picture, using=leaning, **CHOICES, tta=True)
    assert len(leaning.sampled) == 8 * once > 0
    pixels, tissue = leaning.sampled[3]
    assert pixels.shape[:2] == tissue.shape


def test_the_result_says_so(segment: Segment, leaning):
    store, _ = segment(using=leaning, tta=True, refinement="pamr")
    assert ResultStore.open(store.folder).meta.settings["tta"] is True
    assert ResultStore.open(store.folder).meta.settings["refinement"] == "pamr"


def test_other_ways_to_run_the_network_are_augmented_too(leaning):
    leaning.alternatives = ("torch",)
    backend = SymmetricBackend(leaning)
    assert backend.alternatives == ("torch",)
    again = backend.running("torch")
    assert isinstance(again, SymmetricBackend)
    assert (again.info, again.device, again.any_size, again.name) == (leaning.info, leaning.device, True, "torch")
