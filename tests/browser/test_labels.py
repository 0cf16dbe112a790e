"""A data set from a slide in the browser: ticked by mouse and keys, proposed tiles, a rectangle, export, check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lpd.data.check import check_dataset
from lpd.slide.opening import open_slide
from lpd.slide.region import Region

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

State = Callable[[], dict[str, Any]]
STEP = 256  # level-0 pixels of a tile of 128 px at 1 µm/px, on a slide of 0.5: 4 × 3 of them


def settle(page: Page, revision: int) -> None:
    page.wait_for_function(
        "n => { const { labels } = window.__lpd.state; return labels.revision === n && !labels.busy }", arg=revision
    )


def at(page: Page, x_l0: float, y_l0: float) -> tuple[float, float]:
    """Where a place of the slide is on the screen."""
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    left, top, width, height = page.evaluate("window.__lpd.state.region")
    return box["x"] + (x_l0 - left) / width * box["width"], box["y"] + (y_l0 - top) / height * box["height"]


def go_and_come_back(page: Page, held: Any) -> None:
    """Go to another slide while an edit is on its way, let it arrive, and come back."""
    page.locator(".lpd-card", has_text="large-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.labels.grid?.columns === 14")
    held.continue_()
    page.wait_for_function("!window.__lpd.state.labels.busy")
    page.unroute("**/api/labels/*/edit")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.labels.grid?.columns === 4")


def fail_and_hesitate(page: Page, state: State) -> None:
    """Nothing shows as ticked that is not saved, nothing that was taken back stays, and nothing goes without a word."""
    saved = state()["labels"]["tiles"]
    page.mouse.click(*at(page, 2.5 * STEP, 2.5 * STEP))
    page.route("**/api/labels/**", lambda route: route.abort())  # neither said nor known any more
    page.keyboard.press("1")
    page.wait_for_function("!window.__lpd.state.labels.busy")
    page.keyboard.press("2")
    assert state()["labels"]["tiles"] == {}
    assert page.locator(".lpd-label-classes").is_hidden()
    page.unroute("**/api/labels/**")
    page.wait_for_function("window.__lpd.state.labels.grid")
    assert state()["labels"]["tiles"] == saved

    held: list[Any] = []
    page.route("**/api/labels/*/edit", lambda route: held.append(route))
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.wait_for_function("window.__lpd.state.labels.busy")
    with page.expect_request("**/api/labels/*/edit"):
        held[0].continue_()
    # The answer to the first does not hide the second.
    assert state()["labels"]["tiles"]["2,2"] == [0, 1]
    page.once("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog") as asked:
        page.evaluate("location.reload()")
    assert asked.value.type == "beforeunload"
    page.keyboard.press("Control+z")
    go_and_come_back(page, held[1])
    assert state()["labels"]["tiles"] == {**saved, "2,2": [0]}

    page.mouse.click(*at(page, 2.5 * STEP, 2.5 * STEP))
    page.route("**/api/labels/*/edit", lambda route: route.fulfill(status=500, body='{"error": "no"}'))
    page.keyboard.press("2")
    page.keyboard.press("Control+z")  # of what was not said, not of what was said before
    page.wait_for_function("!window.__lpd.state.labels.busy")
    page.unroute("**/api/labels/*/edit")
    assert state()["labels"]["tiles"] == {**saved, "2,2": [0]}


def test_tiles_are_ticked_and_become_a_data_set(page: Page, app: Any, state: State, look: Any) -> None:
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen")
    page.keyboard.press("t")
    page.locator("#lpd-label-name").fill("Two tissues")
    page.locator("#lpd-label-source").select_option(label="my own …")
    for number, code in enumerate(("TUM", "OTH")):
        page.get_by_placeholder("Code").nth(number).fill(code)
        page.get_by_placeholder("Name").nth(number).fill(code.title())
    page.locator("#lpd-label-mpp").fill("1")
    page.get_by_label("Pixels along").select_option("128")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_function("window.__lpd.state.labels.grid")
    assert state()["labels"]["grid"] == {"step": STEP, "columns": 4, "rows": 3}

    page.mouse.click(*at(page, 1.5 * STEP, 1.5 * STEP))
    assert state()["labels"]["selected"] == [[1, 1]]
    page.keyboard.press("1")
    page.keyboard.press("2")
    settle(page, 3)  # a line about the slide, two edits
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    settle(page, 4)
    assert state()["labels"]["tiles"] == {"1,1": [0, 1], "2,1": [1]}
    page.keyboard.press("Control+z")
    settle(page, 5)
    page.keyboard.press("1")
    settle(page, 6)
    look("labels-ticked")

    page.keyboard.press("Enter")
    page.wait_for_function("window.__lpd.state.labels.proposal")
    proposed = state()["labels"]["proposal"]
    assert proposed["reason"] == "unlike anything labelled on this slide"
    assert tuple(proposed["cell"]) not in {(1, 1), (2, 1)}
    page.keyboard.press("0")
    settle(page, 7)
    page.keyboard.press("Enter")
    page.wait_for_function("cell => String(window.__lpd.state.labels.selected[0]) !== cell", arg=str(proposed["cell"]))

    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("0")  # out of labelling: the whole slide
    page.keyboard.press("t")
    page.wait_for_function("window.__lpd.state.labels.active && !window.__lpd.state.labels.busy")
    page.wait_for_timeout(600)
    page.keyboard.press("d")
    page.mouse.move(*at(page, 10, 10))
    page.mouse.down()
    page.mouse.move(*at(page, 4 * STEP - 10, STEP - 10), steps=4)
    page.mouse.up()
    page.wait_for_function("window.__lpd.state.labels.selected.length > 1")
    row = [tuple(cell) for cell in state()["labels"]["selected"]]
    assert set(row) <= {(0, 0), (1, 0), (2, 0), (3, 0)}
    page.locator(".lpd-label-classes button", has_text="Oth").click()
    settle(page, 8)
    look("labels-many")

    # Whoever goes on before the answer has come loses nothing.
    page.mouse.click(*at(page, 1.5 * STEP, 2.5 * STEP))
    held: list[Any] = []
    page.route("**/api/labels/*/edit", lambda route: route.continue_() if held else held.append(route))
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.wait_for_function("window.__lpd.state.labels.busy")
    assert state()["labels"]["selected"] == [[1, 2]]
    go_and_come_back(page, held[0])
    assert state()["labels"]["tiles"]["1,2"] == [0, 1]

    fail_and_hesitate(page, state)

    page.reload()  # all of it is on the server
    page.wait_for_function("window.__lpd?.slideOpen")
    page.get_by_role("button", name="Label", exact=True).click()
    page.wait_for_function("window.__lpd.state.labels.grid && !window.__lpd.state.labels.busy")
    tiles = state()["labels"]["tiles"]
    page.keyboard.press("Enter")  # a proposal, wherever one has clicked to get here
    page.wait_for_function("window.__lpd.state.labels.proposal")
    page.locator(".lpd-card", has_text="large-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.labels.grid?.columns === 14 && !window.__lpd.state.labels.busy")
    page.keyboard.press("Enter")
    page.wait_for_function("window.__lpd.state.labels.proposal")
    assert {tuple(map(int, key.split(","))) for key in tiles} >= {(1, 1), (2, 1), *row}
    held: list[Any] = []
    page.route("**/proposals", lambda route: held.append(route))
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.labels.grid?.columns === 4 && !window.__lpd.state.labels.busy")
    page.keyboard.press("Enter")
    page.wait_for_function("window.__lpd.state.labels.busy")
    page.locator(".lpd-card", has_text="large-phantom.tif").click()  # before the proposal has come
    page.wait_for_function("window.__lpd.state.labels.grid?.columns === 14")
    for route in held[:]:
        route.continue_()
    page.unroute("**/proposals")
    page.wait_for_function("!window.__lpd.state.labels.busy")
    assert state()["labels"]["selected"] == []
    assert page.locator(".lpd-toast", has_text="No tile is left").count() == 0
    page.get_by_role("heading", name="Make a data set").click()
    page.locator(".lpd-label-plan").get_by_text(f"{len(tiles)} tiles to train on").wait_for()
    page.locator("#lpd-export-name").fill("mine")
    page.get_by_role("button", name="Make data set").click()
    page.wait_for_function("window.__lpd.state.labels.export?.ended")
    look("labels-made")
    assert state()["labels"]["export"]["state"] == "done", state()["labels"]["export"]

    folder = app.results.parent / "data" / "mine"
    assert check_dataset(folder).errors == ()
    assert len(list((folder / "train").iterdir())) == len(tiles)
    with open_slide(app.slides / "small-phantom.tif") as slide:
        expected = slide.read(Region(STEP, STEP, STEP, STEP), (128, 128))
    cut = np.asarray(Image.open(folder / "train" / f"small-phantom_x{STEP}_y{STEP}[11].png"))
    np.testing.assert_array_equal(cut, expected)
