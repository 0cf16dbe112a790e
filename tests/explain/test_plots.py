"""Figures of figures of merit: bars, matrices and pictures hold what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from lpd.explain.contact_sheet import CROP_PX, contact_sheet
from lpd.explain.drawing import figure_bytes
from lpd.explain.gallery import top_regions
from lpd.explain.matching import match
from lpd.explain.plots import plot_data_figures, plot_figures, plot_matching
from lpd.explain.slide_figures import slide_figures
from lpd.slide.opening import open_slide

from .conftest import Made, scheme, waves

CLASSES = np.tile([0] * 12 + [1] * 12, (16, 1))


def test_usage_and_correlations_are_drawn(made: Made):
    store, other = made(waves(6, 16, 24), CLASSES), made(waves(12, 16, 24), CLASSES, codes=("AAA",))
    results = [(slide_figures(s), s.meta.classes) for s in (store, other)]
    figure = plot_figures(results)
    axes = np.array(figure.axes[:8]).reshape(4, 2)
    for column, own in enumerate(results[0][0].classes):
        assert own.usage is not None
        bars = [patch.get_height() for patch in axes[0, column].patches]
        assert bars == pytest.approx(own.usage)
        np.testing.assert_allclose(axes[1, column].images[0].get_array(), own.correlations)
        assert axes[0, column].get_title(loc="left").strip() == own.code
    assert len(axes[2, 0].patches) == 12
    assert not axes[2, 1].axison  # the other has one class only
    without = slide_figures(made(waves(6, 16, 24), np.zeros((16, 24))))
    words = [text.get_text() for text in plot_figures([(without, store.meta.classes)]).axes[1].texts]
    assert words == ["no region"]


def test_usage_of_a_data_set_is_drawn():
    own = {"usage": [0.995, 0.005], "dead": [1], "correlations": [[1, 0.25], [0.25, 1]]}
    none = {"usage": None, "dead": [], "correlations": [[None, None], [None, None]]}
    both = scheme(("AAA", "BBB"))
    results = [
        ("tiles of $5", {"classes": {"AAA": own, "BBB": none}}, both),
        ("", {"classes": {"AAA": own}}, scheme(("AAA",))),
    ]
    figure = plot_data_figures(results)
    assert [patch.get_height() for patch in figure.axes[0].patches] == [0.995, 0.005]
    assert "×" in [text.get_text() for text in figure.axes[0].texts]
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), own["correlations"])
    assert [axes.axison for axes in figure.axes[4:]] == [True, False] * 2  # the other model has one class only
    assert figure_bytes(figure, "png")[:4] == b"\x89PNG"


def test_matched_pairs_are_framed(made: Made):
    maps = waves(4, 16, 24)
    found = match(made(maps, CLASSES), made(maps[[1, 0, 2, 3]], CLASSES))
    figure = plot_matching(found, ["A 1", "A 2", "B 1", "B 2"], ["A 1", "A 2", "B 1", "B 2"])
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert [(p.get_y() + 0.5, p.get_x() + 0.5) for p in frames] == [(0, 1), (1, 0), (2, 2), (3, 3)]
    assert figure_bytes(figure, "svg").startswith(b"<?xml")


def test_contact_sheets_show_the_slide(made: Made, tmp_path: Path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 384, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    maps = waves(6, 16, 24)
    maps[1] = maps[0]
    store = made(maps, CLASSES)
    found = top_regions([("a", store), ("b", store)], per_prototype=3, per_slide=2)
    with open_slide(tmp_path / "a.png") as slide:
        sheet = contact_sheet(store.meta.classes.classes[0], found[:3], slide_figures(store).classes[0], {"a": slide})
        axes = np.array(sheet.axes).reshape(3, 3)
        for k in range(3):
            for column, region in enumerate(found[k]):
                shown = axes[k, column].images
                assert len(shown) == (region.slide == "a")
                if shown:
                    picture = np.asarray(shown[0].get_array())
                    assert max(picture.shape) == CROP_PX
                    np.testing.assert_array_equal(picture, slide.read(region.region, picture.shape[1::-1]))
        assert axes[1, 0].get_ylabel().splitlines() == ["AAA 2", "wins 0.0%", "dead", "nearly 1"]
