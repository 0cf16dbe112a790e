"""A result reviewed by clicking: accept, relabel, paint, take back; it is all there after a reload, and taken along."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from lpd.classes import BCSS
from lpd.export.areas import write_areas_csv
from lpd.inference.meta import ResultMeta
from lpd.inference.store import ResultStore
from lpd.runs import Run, write_json_atomically
from lpd.slide.region import Region

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Look = Callable[[str], np.ndarray]
State = Callable[[], dict[str, Any]]


TUMOUR, STROMA, LYMPHOCYTES, NECROSIS, GLASS = range(5)


def write_result(app: Any) -> np.ndarray:
    """A finished result of the small phantom, 512 × 384 mask pixels: a square of tumour in stroma, glass around."""
    with urllib.request.urlopen(f"{app.url}/api/slides") as answer:
        slides = json.load(answer)["slides"]
    slide = next(slide for slide in slides if slide["name"] == "small-phantom.tif")
    mask = np.full((384, 512), GLASS, np.uint8)
    mask[40:344, 40:472] = STROMA
    mask[142:242, 206:306] = TUMOUR
    folder = app.results / "20260102-030405-abcdef"
    record = {"slide_id": slide["id"], "slide_name": "small-phantom.tif", "checkpoint": "by hand", "device": "cpu"}
    more = {"mpp": None, "region_l0": None, "created": 1.7e9, "argv": []}
    write_json_atomically(folder / "job.json", {**record, **more})
    with Run(folder / "small-phantom", "segment"):
        meta = ResultMeta("small-phantom", slide["fingerprint"], 1024, 768, 0.5, 1.0, BCSS, "by hand", "0")
        store = ResultStore.create(folder / "small-phantom", meta)
        store.write_mask(0, 0, mask)
        store.commit(Region(0, 0, 1024, 768))
        store.finish()
        write_areas_csv(store, folder / "small-phantom" / "areas.csv")
    return mask


def settle(page: Page, revision: int) -> None:
    """Wait until an edit is saved and shown."""
    page.wait_for_function(
        "n => { const { review, layers } = window.__lpd.state;"
        " return review.revision === n && !review.busy && !layers.review.loading && !layers.mask.loading }",
        arg=revision,
    )
    page.wait_for_timeout(300)


def legend(page: Page) -> dict[str, str]:
    """Areas by class as the legend says them, stroma left out; whose they are under ""."""
    rows = page.locator(".lpd-legend-row").evaluate_all(
        "all => all.map((r) => [...r.children].map((c) => c.innerText))"
    )
    found = {row[1].strip(): row[2] for row in rows[1:]}
    wanted = ("Tumour", "Lymphocytes", "Necrosis")
    return {"": rows[0][1]} | {name: found[name] for name in wanted}


def differ(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the pixels around the middle that look otherwise; a focus ring and the read-out are not there."""
    return float((np.abs(one - other).max(axis=2) > 30)[180:-180, 230:-230].mean())


def comes_to(look: Look, name: str, expected: np.ndarray) -> bool:
    """Whether this becomes the picture: a busy machine is late with tiles."""
    deadline = time.monotonic() + 20
    while differ(look(name), expected) >= 0.002:
        if time.monotonic() > deadline:
            return False
    return True


def test_a_result_is_reviewed_by_clicking(page: Page, app: Any, look: Look, state: State) -> None:
    mask = write_result(app)
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.review.revision === 0")
    words = page.locator(".lpd-review-words > span")
    assert words.text_content() == "Not reviewed by a person"

    page.get_by_role("button", name="Review", exact=True).click()
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.locator(".lpd-card", has_text="small-phantom.tif").click()  # which is open: nothing is interrupted
    page.wait_for_timeout(500)
    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")
    assert state()["review"]["selected"] == {"value": TUMOUR, "cut": False}
    look("review-selected")
    page.get_by_role("button", name="Accept").click()
    settle(page, 1)
    assert words.text_content() == "Partly reviewed: 7.6 % of the tissue"  # 100 × 100 of 432 × 304
    accepted = look("review-accepted")

    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")
    page.keyboard.press(str(LYMPHOCYTES + 1))
    settle(page, 2)
    assert differ(look("review-relabelled"), accepted) > 0.1
    page.keyboard.press("Control+z")
    settle(page, 3)
    assert comes_to(look, "review-undone", accepted)
    redo, undo = (page.get_by_role("button", name=name, exact=True) for name in ("Redo", "Undo"))
    redo.click()
    settle(page, 4)
    assert redo.is_disabled()
    assert legend(page) == {"": "with corrections", "Tumour": "0.000", "Lymphocytes": "0.010", "Necrosis": "0.000"}
    assert differ(look("review-redone"), accepted) > 0.1
    undo.click()
    settle(page, 5)
    assert legend(page) == {"": "", "Tumour": "0.010", "Lymphocytes": "0.000", "Necrosis": "0.000"}

    page.keyboard.press("d")
    page.keyboard.press(str(NECROSIS + 1))
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=5)
    page.mouse.up()
    settle(page, 6)
    page.mouse.move(middle[0] + 30, middle[1] + 5)
    page.wait_for_function("/Necrosis.* · reviewed/.test(document.querySelector('.lpd-readout').textContent)")
    page.keyboard.press("Escape")
    page.mouse.move(box["x"] + 80, box["y"] + 5)
    painted = look("review-painted")
    assert not state()["review"]["active"]

    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen")
    settle(page, 6)
    assert (words.text_content() or "").startswith("Partly reviewed")
    page.wait_for_function("window.__lpd.state.layers.mask.fetches >= 4 && window.__lpd.state.layers.mask.drawn")
    settle(page, 6)
    assert comes_to(look, "review-reloaded", painted)
    corrected = legend(page)
    assert corrected[""] == "with corrections"
    page.get_by_role("button", name="Show the model alone").click()
    assert not page.locator("#lpd-layer-review").is_checked()
    assert legend(page) == {"": "model alone", "Tumour": "0.010", "Lymphocytes": "0.000", "Necrosis": "0.000"}
    page.wait_for_function("!window.__lpd.state.layers.mask.loading && window.__lpd.state.layers.mask.drawn")
    page.mouse.move(middle[0] + 30, middle[1] + 5)
    page.wait_for_function("document.querySelector('.lpd-readout').textContent.startsWith('Tumour')")
    with page.expect_download() as download:
        page.locator("[data-review=labels]").click()
    labels = tifffile.imread(download.value.path())
    assert labels.shape == mask.shape
    length = 60 / state()["scale"] / 2  # in mask pixels of two level-0 pixels; the brush is 100 of them wide
    capsule = length * 100 + np.pi * 50**2
    assert abs((labels == NECROSIS).sum() / capsule - 1) < 0.03
    assert corrected["Necrosis"] == f"{(labels == NECROSIS).sum() / 1e6:.3f}"
    assert corrected["Tumour"] == f"{(labels == TUMOUR).sum():,} µm²"
    assert (labels == TUMOUR).sum() == 100 * 100 - (labels == NECROSIS)[142:242, 206:306].sum()
    assert set(np.unique(labels).tolist()) == {TUMOUR, NECROSIS, 255}

    # Whoever goes on to another slide before the answers have come loses nothing.
    held: list[Any] = []
    page.route("**/review/undo", lambda route: route.continue_() if held else held.append(route))
    page.get_by_role("button", name="Review", exact=True).click()
    undo.click()
    page.keyboard.press("Control+z")
    page.wait_for_function("window.__lpd.state.review.busy")
    page.locator(".lpd-card", has_text="large-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.review.revision === null")
    held[0].continue_()
    page.wait_for_function("!window.__lpd.state.review.busy")
    page.unroute("**/review/undo")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.state.review.revision === 8")
    assert words.text_content() == "Not reviewed by a person"


def test_a_region_that_somebody_else_has_corrected_since_it_was_selected_is_looked_at_again(
    page: Page, app: Any, state: State
) -> None:
    write_result(app)
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.review.revision === 0")
    page.keyboard.press("v")
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")

    # The tumour is stroma, says somebody: now the region at that place is all the stroma.
    review = f"{app.url}/results/20260102-030405-abcdef/review"
    with urllib.request.urlopen(review) as answer:
        run = json.load(answer)["run"]
    said = {"run": run, "revision": 0, "x": 512, "y": 384, "view": [0, 0, 1024, 768], "value": STROMA}
    request = urllib.request.Request(
        f"{review}/region", json.dumps(said).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()
    settle(page, 1)
    page.keyboard.press(str(LYMPHOCYTES + 1))
    page.get_by_text("has corrected this place meanwhile").wait_for()
    settle(page, 1)
    assert legend(page)["Lymphocytes"] == "0.000"
    assert state()["review"]["selected"] is None

    # One's own edits are no surprise, however slow the server is; and the page is not closed before they are saved.
    held: list[Any] = []
    page.route("**/review/region", lambda route: route.continue_() if held else held.append(route))
    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")
    page.keyboard.press(str(LYMPHOCYTES + 1))
    page.mouse.click(*middle)
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.reload())")
    page.wait_for_timeout(1000)
    assert asked == ["beforeunload"]
    held[0].continue_()
    page.wait_for_function("window.__lpd.state.review.selected")
    assert state()["review"]["selected"] == {"value": LYMPHOCYTES, "cut": False}
    page.keyboard.press(str(NECROSIS + 1))
    settle(page, 3)
    page.evaluate("window.__lpd.errors.length = 0")


def test_what_is_painted_before_the_review_is_fetched_is_said_all_the_same(page: Page, app: Any, state: State) -> None:
    write_result(app)
    held: list[Any] = []
    free: list[bool] = []
    page.route("**/review?since=*", lambda route: route.continue_() if free else held.append(route))
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.job")
    page.locator(".lpd-osd").focus()
    for key in ("v", "d", str(NECROSIS + 1)):
        page.keyboard.press(key)
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    for down in (0, 40, 40):  # the last two in one place
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + down)
        page.mouse.down()
        page.mouse.up()
    page.wait_for_function("window.__lpd.state.review.busy")
    assert state()["review"]["revision"] is None
    free.append(True)
    for route in held:
        route.continue_()
    settle(page, 3)
    assert page.locator(".lpd-toast").count() == 0
