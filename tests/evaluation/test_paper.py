"""The map of the paper's released code against loops written from its description."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpd.evaluation.paper import PaperTally, paper_fusion, paper_map
from lpd.model.network import LPDOutput


def output_of(cams: dict[int, torch.Tensor]) -> LPDOutput:
    return LPDOutput({}, {}, cams, {})


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([1, 2, 3], {1: 0.3, 2: 0.3, 3: 0.4}),
        ([0, 1, 2, 3], {1: 0.3, 2: 0.3, 3: 0.4}),
        ([3, 2], {2: 0.3 / 0.7, 3: 0.4 / 0.7}),
        ([3], {3: 1.0}),
    ],
)
def test_the_deepest_scales_share_the_weight(scales, expected):
    assert paper_fusion(scales) == pytest.approx(expected)


def test_maps_equal_a_loop():
    torch.manual_seed(0)
    cams = {scale: 4 * torch.randn(2, 3, 6, 6) for scale in (0, 1, 2, 3)}
    labels = np.array([[True, False, True], [True, True, True]])
    expected = np.zeros((2, 6, 6), int)
    for b in range(2):
        fused = np.zeros((3, 6, 6))
        for scale, weight in ((1, 0.3), (2, 0.3), (3, 0.4)):
            for c in range(3):
                positive = np.maximum(cams[scale][b, c].numpy(), 0)
                fused[c] += weight * labels[b, c] * (positive - positive.min()) / (positive.max() - positive.min())
        for y in range(6):
            for x in range(6):
                expected[b, y, x] = np.argmax([*fused[:, y, x], (1 - fused[:, y, x].max()) ** 10])
    found = paper_map(output_of(cams), labels, (6, 6))
    assert found.tolist() == expected.tolist()
    assert not (found[0] == 1).any()
    assert len(np.unique(found)) == 4


def test_faint_maps_are_stretched_and_flat_ones_are_background():
    """The fault: a highest logit of 0.003 draws as much as one of 30. A map of one value has nothing to stretch."""
    ramp = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    labels = np.array([[True]])
    strong = paper_map(output_of({3: 30 * ramp}), labels, (4, 4))
    assert np.array_equal(paper_map(output_of({3: 0.003 * ramp}), labels, (4, 4)), strong)
    assert (strong == 0).any()
    assert (paper_map(output_of({3: torch.full((1, 1, 4, 4), 7.0)}), labels, (4, 4)) == 1).all()
    assert (paper_map(output_of({3: ramp}), ~labels, (4, 4)) == 1).all()


def test_scores_under_both_labels_by_hand():
    """One class; the map says class in the right column and background in the left one."""
    tally = PaperTally(("AAA",))
    truth = np.array([[[0, 0], [1, 0], [1, 255]]], dtype=np.uint8)
    cam = torch.tensor([[0.0, 5.0]] * 3)[None, None]
    tally.add(output_of({3: cam}), truth, np.array([[True]]), np.array([[False]]))
    found = tally.summary()
    assert (found["scales"], found["weights"]) == ([3], [1.0])
    own = found["oracle"]["power rule"]
    assert own["iou"] == pytest.approx({"AAA": 2 / 3, "background": 2 / 3})  # one of three class pixels is missed
    assert found["oracle"]["given"]["iou"]["background"] == pytest.approx(2 / 3)  # the missed one stays background
    assert found["predicted"]["power rule"]["iou"] == pytest.approx({"AAA": 0, "background": 2 / 5})


def test_given_copies_background_over_the_map():
    tally = PaperTally(("AAA",))
    truth = np.array([[[1, 0], [1, 1]]], dtype=np.uint8)
    cam = torch.tensor([[0.0, 5.0]] * 2)[None, None]
    tally.add(output_of({3: cam}), truth, np.array([[True]]), np.array([[True]]))
    assert tally.summary()["oracle"]["power rule"]["iou"] == pytest.approx({"AAA": 1 / 2, "background": 2 / 3})
    assert tally.summary()["oracle"]["given"]["iou"] == {"AAA": 1, "background": 1}
