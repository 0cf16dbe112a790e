"""Prototypes in a plane: distances that must survive, shares by hand, and who shares a plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.classes import ClassScheme, TissueClass
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.errors import ConfigError, ShapeError
from lpd.explain.directions import read_directions
from lpd.explain.drawing import figure_bytes
from lpd.explain.projection import PrototypeDirections, draw_projection, project
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet

SCHEME = ClassScheme((TissueClass("AAA", "First", (200, 0, 0)), TissueClass("BBB", "Second", (0, 0, 200))))


def model(count: int = 6, dim: int = 8, space: str = "s", **changes) -> PrototypeDirections:
    values = np.random.default_rng(count).normal(size=(count, dim))
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    return PrototypeDirections(
        **{"checkpoint": "model", "scheme": SCHEME, "directions": directions, "space": space, **changes}
    )


def test_what_lies_in_a_plane_keeps_its_distances():
    flat = np.random.default_rng(0).normal(size=(7, 2)) * (3, 1)
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))
    places, shares = project(flat @ turned[:2] + 5)
    between = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (flat, places)]
    np.testing.assert_allclose(between[1], between[0], atol=1e-10)
    strengths = np.linalg.eigvalsh(np.cov(flat.T))[::-1]
    np.testing.assert_allclose(shares, strengths / strengths.sum())
    np.testing.assert_allclose(project(flat @ turned[:2])[0], places, atol=1e-10)  # signs do not wander


@pytest.mark.parametrize("count", [1, 2])
def test_few_prototypes_have_places_too(count: int):
    places, shares = project(np.eye(4)[:count])
    assert places.shape == (count, 2)
    np.testing.assert_allclose(places[:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(shares, (float(count > 1), 0), atol=1e-12)
    figure_bytes(draw_projection([model(2, directions=np.eye(4)[:2])]), "png", 50)


def planes(figure) -> list[str]:
    return [str(axes.get_label()) for axes in figure.axes]


def test_models_of_one_encoder_share_a_plane_and_others_do_not():
    assert planes(draw_projection([model(), model(checkpoint="other")])) == ["plane model other"]
    assert planes(draw_projection([model(), model(checkpoint="b", space="t")])) == ["plane model", "plane b"]
    assert planes(draw_projection([model(), model(4, 5, checkpoint="b")])) == ["plane model", "plane b"]


def test_names_examples_and_colours_are_drawn():
    names = ("glands", "", "", "$x", "", "")
    crops = {(0, 2): np.zeros((8, 8, 3), np.uint8)}
    figure = draw_projection([model(names=names)], crops=crops)
    text = figure_bytes(figure, "svg").decode()
    for word in ("glands", "$x", "First", "Second", "first component", "% of variance"):
        assert word in text
    (plane,) = figure.axes
    assert [str(inset.get_label()) for inset in plane.child_axes] == ["example 3"]
    points = [line for line in plane.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in points] == [(200 / 255, 0, 0)] * 3 + [(0, 0, 200 / 255)] * 3
    places, _ = project(model().directions)
    np.testing.assert_allclose([(line.get_xdata()[0], line.get_ydata()[0]) for line in points], places)


def test_names_of_forty_prototypes_do_not_hide_one_another():
    figure = draw_projection([model(40, 30)])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 40
    shared = [
        max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0, min(a.y1, b.y1) - max(a.y0, b.y0)) / (a.width * a.height)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ]
    assert max(shared) < 0.3


def test_directions_are_the_adapted_prototypes_of_the_deepest_scale():
    torch.manual_seed(0)
    config = ModelConfig("mobilenetv2_050", 2, prototypes_per_class=2, prototype_dim=16)
    ones, zeros = (1.0, 1.0), (0.0, 0.0)
    calibration = Calibration((0.2, 0.3, 0.5), ones, zeros, ones, zeros)
    info = CheckpointInfo(Path("a.safetensors"), SCHEME, InputSpec(mpp=1.0), config, calibration)
    network = LPDNet(config).eval()
    found = read_directions(network, info)
    adapted = network.adapted_prototypes()[3].detach().numpy()
    np.testing.assert_allclose(found.directions, adapted / np.linalg.norm(adapted, axis=1)[:, None], atol=1e-6)
    assert (found.checkpoint, found.class_of(1), found.class_of(2), found.label(3)) == ("a", 0, 1, "2")
    network.prototypes.data += 1
    assert read_directions(network, info).space == found.space
    next(network.encoder.parameters()).data += 1
    assert read_directions(network, info).space != found.space


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ConfigError, match="0 models cannot be drawn"):
        draw_projection([])
    with pytest.raises(ConfigError, match="1 names for 6 prototypes"):
        model(names=("a",))
    with pytest.raises(ShapeError, match="2 classes"):
        model(5)
