"""The figure of an inspection: what is on it, that it can be searched, and that it is the same each time."""

from __future__ import annotations

import dataclasses
import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.errors import ConfigError
from lpd.explain.heatmap import heatmap_png
from lpd.explain.inspection import InspectedPlace, Inspection, ScaleCam
from lpd.explain.inspection_figure import draw_inspection, figure_bytes
from lpd.slide.region import Region

COLOURS = ((200, 30, 30), (30, 160, 60), (40, 60, 200), (150, 0, 255), (240, 150, 0))


def inspection(classes: int = 2, per_class: int = 3, *, size: tuple[int, int] = (64, 64), **changes) -> Inspection:
    """Of a place 64 px wide at 1 µm, of which level 0 has twice as many; maps rise from −.5 to .5."""
    width, height = size
    scheme = ClassScheme(tuple(TissueClass(f"C{c}", f"Class {c}", COLOURS[c % 5]) for c in range(classes)))
    cells = classes, per_class, -(-height // 8), -(-width // 8)
    maps = np.linspace(-0.5, 0.5, int(np.prod(cells)), dtype=np.float32).reshape(cells)
    cams = tuple(ScaleCam(scale, 16, maps[:, 0, ::2, ::2]) for scale in (2, 3))
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = classes
    place = InspectedPlace("slide", 0.5, Region(100, 200, 2 * width, 2 * height))
    picture = np.full((height, width, 3), 220, np.uint8)
    gates, scores = np.linspace(0.98, 0.1, classes), np.linspace(0.7, 0.2, classes)
    found = Inspection(
        "model", place, picture, scheme, maps, maps.mean(1), 8, "cosine", gates, scores, mask, cams=cams, notes=("N.",)
    )
    return dataclasses.replace(found, **changes)


def labels(figure: Figure) -> list[str]:
    return [str(axes.get_label()) for axes in figure.axes]


def words(figure: Figure) -> list[str]:
    """Every text of an SVG, in order."""
    root = ElementTree.fromstring(figure_bytes(figure, "svg"))
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")]


def test_one_panel_for_each_map_cam_picture_and_mask():
    figure = draw_inspection([inspection()])
    grid = [f"C{c} {k + 1}" for k in range(3) for c in (0, 1)]
    cams = [f"{row} C{c}" for row in ("CAM, scale 2", "CAM, scale 3", "fused CAM") for c in (0, 1)]
    assert labels(figure) == ["picture", "mask", *grid, *cams, "colours cosine"]
    both = draw_inspection([inspection(), inspection(3, 1, unit="logit", truth=None)])
    assert len(both.axes) == 1 + 2 + (3 + 3) * 2 + (1 + 3) * 3 + 2  # picture, masks, two grids, a bar a unit
    assert {"mask A", "mask B", "A C1 3", "B C2 1", "colours cosine", "colours logit"} <= set(labels(both))
    known = draw_inspection([inspection(truth=np.zeros((64, 64), np.uint8), cams=())])
    assert len(known.axes) == 2 + 1 + (3 + 1) * 2 + 1


def test_words_can_be_searched_and_say_what_the_arrays_say():
    first = inspection(names=("glands", "", "nests", "", "", "<b> $x^2$"), muted=frozenset({1}))
    text = words(draw_inspection([first]))
    for expected in ("slide   x 100, y 200, 128 × 128 px at 0.5 µm/px", "model", "Class 0", "gate 0.98", "score 0.70"):
        assert expected in text
    assert {"glands", "C0 2", "nests", "C1 1", "<b> $x^2$", "muted", "20 µm", "N."} <= set(text)
    highest = f"max {first.maps[0, 0].max():.2f}".replace("-", "−")
    assert text[text.index("glands") + 1] == highest
    merged = words(draw_inspection([inspection(1, 2, merged=((0, 1),), cams=())]))
    assert "C0 1 and C0 2 count as one in CAMs, gate, score and mask." in merged
    assert "Figure 3" in words(draw_inspection([inspection(1, 1)], title="Figure 3"))


def test_maps_lie_where_their_place_lies_in_the_first_picture():
    moved = InspectedPlace("slide", 0.5, Region(116, 200, 128, 128))
    figure = draw_inspection([inspection(), inspection(place=moved)])
    own = {str(axes.get_label()): axes for axes in figure.axes}
    assert own["A C0 1"].images[0].get_extent() == [100, 228, 328, 200]
    assert own["B C0 1"].images[0].get_extent() == [116, 244, 328, 200]
    assert own["B CAM, scale 2 C0"].images[0].get_extent() == [116, 244, 328, 200]
    for label in ("picture", "A C0 1", "B C0 1", "mask B"):
        assert (*own[label].get_xlim(), *own[label].get_ylim()) == (100, 228, 328, 200)


def test_all_maps_of_a_unit_have_one_scale_of_colours():
    wide = inspection(maps=inspection().maps * 2)
    figure = draw_inspection([inspection(), wide])
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.get_label()[:2] in ("A ", "B ")}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == pytest.approx(-high)
    assert 0.9 <= high <= 1.0
    figure = draw_inspection([inspection()], value_range=(-1, 1))
    assert figure.axes[2].images[0].get_clim() == (-1, 1)


def test_muted_maps_are_crossed_out_and_masks_have_the_classes_colours():
    figure = draw_inspection([inspection(muted=frozenset({4}))])
    crossed = [axes.get_label() for axes in figure.axes if len(axes.lines) == 4]
    assert crossed == ["C1 2"]
    mask = next(axes for axes in figure.axes if axes.get_label() == "mask").images[0].get_array()
    assert mask[0, 0].tolist() == [200, 30, 30]
    assert mask[0, -1].tolist() == [255, 255, 255]


def test_the_same_figure_is_the_same_file_without_a_date():
    small = inspection(1, 1, cams=())
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        first, second = (figure_bytes(draw_inspection([small]), kind, 60) for _ in range(2))
        assert first == second
        assert first.startswith(start)
        assert not re.search(rb"20[0-9]{2}-[01][0-9]|CreationDate|dc:date", first)
    figure = draw_inspection([small])
    width, height = Image.open(io.BytesIO(figure_bytes(figure, "png", 60))).size
    assert (width, height) == tuple(int(60 * side) for side in figure.get_size_inches())


def test_nobodys_settings_are_changed_and_nobodys_change_the_figure():
    small = inspection(1, 1, cams=())
    expected = figure_bytes(draw_inspection([small]), "svg")
    with matplotlib.rc_context({"svg.fonttype": "path", "font.family": "serif", "axes.linewidth": 5}):
        before = dict(matplotlib.rcParams)
        assert figure_bytes(draw_inspection([small]), "svg") == expected
        assert dict(matplotlib.rcParams) == before


SHAPES = [(3, 3), (4, 10), (2, 1), (1, 1), (12, 2)]


@pytest.mark.parametrize(("classes", "per_class"), SHAPES)
def test_nothing_overlaps_or_leaves_the_page(classes: int, per_class: int):
    """Letters are measured as they are drawn."""
    names = tuple(f"long name number {m}" for m in range(classes * per_class))
    first = inspection(classes, per_class, cams=(), names=names if classes == 3 else ())
    figure = draw_inspection([first, first] if classes == 2 else [first])
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.texts if t.get_text()] + [a.get_window_extent() for a in figure.axes]
    page = figure.bbox
    for index, box in enumerate(boxes):
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
        for other in boxes[:index]:
            wide, high = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(wide, high) < 2.5  # px; letters without descenders leave room below their baseline


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: draw_inspection([]), "0 models cannot be drawn: choose 1 to 6"),
        (
            lambda: draw_inspection([inspection(), inspection(place=InspectedPlace("b", 1, Region(0, 0, 8, 8)))]),
            "slide and b are different pictures",
        ),
        (lambda: draw_inspection([inspection(20, 30)]), "model has 600 prototypes, and at most 400"),
        (lambda: draw_inspection([inspection()], opacity=0), "opacity 0 is not above 0"),
        (lambda: draw_inspection([inspection()], value_range=(1, 1)), "colours from 1 to 1 do not rise"),
        (
            lambda: figure_bytes(draw_inspection([inspection(1, 1)]), "gif"),
            "not written as 'gif': choose png, svg, pdf",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(call, words: str):
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_heatmap_has_a_colour_a_cell_and_grey_where_nothing_was_computed():
    found = inspection()
    found.maps[0, 1, 0, 0] = np.nan
    pixels = np.asarray(Image.open(io.BytesIO(heatmap_png(found, 0, 1, -0.5, 0.5))))
    assert pixels.shape == (64, 64, 3)
    assert (pixels[:8, :8] == (0xE4, 0xE7, 0xEA)).all()
    colours = np.asarray(matplotlib.colormaps["viridis"](found.maps[0, 1, 3, 5] + 0.5))[:3] * 255
    assert np.abs(pixels[24:32, 40:48] - colours).max() < 1.5
