"""Layers over the slide and what people draw on it, by clicking."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely

from .test_review import write_result

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Look = Callable[[str], np.ndarray]
State = Callable[[], dict[str, Any]]


def visit(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.slide === 'small-phantom.tif'")
    page.wait_for_load_state("networkidle")


def settle(page: Page, layer: str) -> None:
    page.wait_for_function(
        "name => { const l = window.__lpd.state.layers[name]; return l.drawn > 0 && !l.loading }", arg=layer
    )
    page.wait_for_timeout(300)


def draw(page: Page, *places: tuple[int, int]) -> None:
    """Drag from the first place of the stage to the others."""
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    for number, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def test_layers_are_coloured_by_score_doubt_and_truth(page: Page, app: Any, look: Look, state: State) -> None:
    visit(page, app.url)
    plain = look("plain")
    page.locator("#lpd-layer-truth").check()
    settle(page, "truth")
    bare = look("truth")
    assert (np.abs(bare - plain).max(axis=2) > 40).mean() > 0.005  # in the model's colours, before there is a result
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.state === 'done'", timeout=120_000)
    page.locator("#lpd-layer-mask").uncheck()
    page.locator("#lpd-layer-heat").check()
    page.get_by_label("Heatmap of").select_option("score-1")
    settle(page, "heat")
    heat = look("heat")
    assert (np.abs(heat - bare).max(axis=2) > 40).mean() > 0.01
    fetches = state()["layers"]["heat"]["fetches"]
    page.get_by_label("Heatmap: threshold").fill("0")
    page.wait_for_timeout(300)
    everything = (np.abs(look("threshold") - bare).max(axis=2) > 40).mean()
    assert everything > 1.3 * (np.abs(heat - bare).max(axis=2) > 40).mean()  # places without any stroma are dark now
    assert state()["layers"]["heat"]["fetches"] == fetches  # thresholds ask for nothing
    page.get_by_label("Heatmap of").select_option("margin")
    settle(page, "heat")
    assert state()["heat"] == "margin"
    (result,) = (path.parent for path in app.results.glob("*/job.json"))
    shutil.copytree(result, result.with_name("20200101-000000-abcdef"))  # another result to compare with
    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen")
    settle(page, "heat")
    page.locator("#lpd-layer-difference").check()
    page.get_by_label("Heatmap: threshold").fill("0.35")
    page.get_by_label("Heatmap: opacity").fill("0.4")
    page.wait_for_function("/with=2020.*from=0.35|from=0.35.*with=2020/.test(location.href)")
    link = page.evaluate("location.href")
    page.evaluate("localStorage.clear(); localStorage.setItem('lpd.guided', 'true')")  # as somebody else opens it
    page.goto(link)
    page.wait_for_function("window.__lpd?.slideOpen")
    settle(page, "heat")
    layers = state()["layers"]
    assert {name for name in layers if layers[name]["on"]} == {"difference", "heat", "review", "truth"}
    assert page.get_by_label("Heatmap: threshold").input_value() == "0.35"
    assert page.get_by_label("Heatmap: opacity").input_value() == "0.4"
    page.locator("#lpd-layer-difference").uncheck()
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    page.locator("#lpd-layer-mask").check()
    settle(page, "mask")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function(
        r"/(Tumour|Stroma|Lymphocytes|Necrosis) [01]\.\d\d/.test(document.querySelector('.lpd-readout').textContent)"
    )


def test_a_link_brings_back_place_and_turn(page: Page, app: Any, state: State) -> None:
    visit(page, app.url)
    page.keyboard.press("r")
    page.keyboard.press("+")
    page.wait_for_function("location.href.includes('turn=90')")
    page.wait_for_timeout(800)
    before = state()
    page.goto(page.evaluate("location.href"))
    page.wait_for_function("window.__lpd?.slideOpen")
    page.wait_for_timeout(300)
    after = state()
    assert after["turn"] == before["turn"] == 90
    assert abs(after["scale"] / before["scale"] - 1) < 0.01
    assert np.abs(np.array(after["region"]) - before["region"]).max() < 6


def test_regions_are_drawn_named_undone_and_taken_along(page: Page, app: Any, state: State, tmp_path: Path) -> None:
    visit(page, app.url)
    page.keyboard.press("e")
    draw(page, (300, 200), (420, 300))
    page.wait_for_function("window.__lpd.state.shapes === 1 && window.__lpd.state.selected")
    page.get_by_label("Name or note").fill("biopsy <b>3</b>")
    page.get_by_label("Class", exact=True).select_option("Stroma")
    page.locator(".lpd-osd").focus()
    page.keyboard.press("l")
    draw(page, (300, 400), (500, 400))
    assert state()["shapes"] == 1  # a length is only looked at
    page.get_by_role("button", name="Keep this measurement").click()
    page.keyboard.press("p")
    draw(page, (500, 200), (600, 200), (600, 300), (500, 300))
    page.wait_for_function("window.__lpd.state.shapes === 3")
    page.locator(".lpd-osd").focus()
    page.keyboard.press("Control+z")
    page.wait_for_function("window.__lpd.state.shapes === 2")
    page.keyboard.press("Control+y")
    page.wait_for_function("window.__lpd.state.shapes === 3 && window.__lpd.state.saved")
    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen && window.__lpd.state.shapes === 3")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    text = download.value.path().read_text()
    features = json.loads(text)["features"]
    rectangle, length, freehand = features
    assert len(freehand["geometry"]["coordinates"][0]) <= 6  # the hand's way had thirteen points
    assert rectangle["properties"]["name"] == "biopsy <b>3</b>"
    assert rectangle["properties"]["classification"]["name"] == "Stroma"
    scale = state()["scale"]
    shape = shapely.from_geojson(json.dumps(rectangle["geometry"]))
    assert abs(shape.area / (120 * 100 / scale**2) - 1) < 0.05
    assert abs(shapely.from_geojson(json.dumps(length["geometry"])).length / (200 / scale) - 1) < 0.05

    (tmp_path / "again.geojson").write_text(text)
    page.locator(".lpd-shapes-section input[type=file]").set_input_files(tmp_path / "again.geojson")
    page.wait_for_function("window.__lpd.state.shapes === 6 && window.__lpd.state.saved")
    again = page.evaluate(
        "id => fetch(`/api/slides/${id}/annotations`).then((r) => r.json())",
        page.evaluate("new URLSearchParams(location.search).get('slide')"),
    )
    assert again["features"][3:] == features
    assert page.locator(".lpd-shape-list li").count() == 6
    bad = (
        ("{", "bad.geojson cannot be imported"),
        ('{"type": "Feature", "geometry": null}', "annotation 1 is no point, line or polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9]]]}', "a ring is not closed"),
    )
    for text, says in bad:
        (tmp_path / "bad.geojson").write_text(text)
        page.locator(".lpd-shapes-section input[type=file]").set_input_files(tmp_path / "bad.geojson")
        page.wait_for_function("says => document.querySelector('.lpd-toasts').textContent.includes(says)", arg=says)
    page.locator(".lpd-osd").focus()
    page.keyboard.press("e")
    draw(page, (100, 60), (200, 120))  # what was refused does not stand in the way of what is drawn after it
    page.wait_for_function("window.__lpd.state.shapes === 7 && window.__lpd.state.saved")


def test_a_bookmark_leads_back_to_its_view_wherever_it_is_moved(page: Page, app: Any, state: State) -> None:
    def centre() -> np.ndarray:
        x, y, width, height = state()["region"]
        return np.array([x + width / 2, y + height / 2])

    def still() -> None:
        page.wait_for_timeout(1500)  # springs come to rest

    visit(page, app.url)
    page.keyboard.press("+")
    still()
    then, scale = centre(), state()["scale"]
    page.keyboard.press("b")
    draw(page, (400, 300))
    page.wait_for_function("window.__lpd.state.shapes === 1 && window.__lpd.state.selected")
    page.get_by_label("Name or note").fill("mitoses here")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator(".lpd-shape-list li", has_text="mitoses here").click()
    still()
    assert np.abs(centre() - then).max() < 2 / scale
    draw(page, (400, 300), (460, 300))  # taken along by the hand
    page.wait_for_function("window.__lpd.state.saved")
    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen && window.__lpd.state.shapes === 1")
    page.keyboard.press("0")
    still()
    assert state()["scale"] < 0.9 * scale
    page.locator(".lpd-shape-list li", has_text="mitoses here").click()
    still()
    assert abs(state()["scale"] / scale - 1) < 0.01
    assert np.abs(centre() - then - [60 / scale, 0]).max() < 3 / scale
    page.keyboard.press("Delete")
    page.wait_for_function("window.__lpd.state.shapes === 0 && window.__lpd.state.saved")


def test_outlines_are_thinned_as_shapely_thins_them(page: Page, app: Any) -> None:
    visit(page, app.url)
    points = np.random.default_rng(0).random((300, 2)).cumsum(axis=0).round(3)
    module = page.evaluate("performance.getEntriesByType('resource').find(e => e.name.endsWith('outline.js')).name")
    thin = "async ([url, points]) => (await import(url)).simplified(points, 0.4)"
    kept = page.evaluate(thin, [module, points.tolist()])
    expected = shapely.LineString(points).simplify(0.4, preserve_topology=False)
    assert len(kept) < 200
    assert shapely.LineString(kept).equals_exact(expected, 1e-9)


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        ("x=abc&y=9&scale=.5", "does not name a place"),
        ("x=1e308&y=9&scale=.5", "does not name a place"),
        ("x=9&y=9&scale=0", "does not name a place"),
        ("x=9&y=9&scale=.5&turn=Infinity", "does not name a place"),
        ("on=mask,heat&heat=score-99", "is not one of this result"),
        ("on=mask,difference&with=gone", "cannot be shown on this slide"),
    ],
)
def test_a_spoilt_address_says_so_and_shows_the_slide(page: Page, app: Any, spoilt: str, sentence: str) -> None:
    write_result(app)
    with urllib.request.urlopen(f"{app.url}/api/slides") as answer:
        slides = json.load(answer)["slides"]
    slide = next(slide["id"] for slide in slides if slide["name"] == "small-phantom.tif")
    page.goto(f"{app.url}/?slide={slide}&{spoilt}")
    page.get_by_text(sentence).wait_for()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.layers.mask.drawn")
    x, y, width, height = page.evaluate("window.__lpd.state.region")
    assert max(x, y, 1023 - x - width, 767 - y - height) < 1
