"""A result reviewed by clicking: accept, relabel, paint, take back; it is all there after a reload, and taken along."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Look = Callable[[str], np.ndarray]
State = Callable[[], dict[str, Any]]


def settle(page: Page, revision: int) -> None:
    """Wait until an edit is saved and shown."""
    page.wait_for_function(
        "n => { const { review, layers } = window.__lpd.state;"
        " return review.revision === n && !review.busy && !layers.review.loading && !layers.mask.loading }",
        arg=revision,
    )
    page.wait_for_timeout(300)


def test_a_result_is_reviewed_by_clicking(page: Page, app: Any, look: Look, state: State) -> None:
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.slide === 'small-phantom.tif'")
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.state === 'done'", timeout=120_000)
    page.wait_for_function("window.__lpd.state.review.revision === 0")
    words = page.locator(".lpd-review-words > span")
    assert words.text_content() == "Not reviewed by a person"

    page.get_by_role("button", name="Review", exact=True).click()
    box = page.locator(".lpd-osd").bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")
    look("review-selected")
    model = state()["review"]["selected"]["value"]
    other = 0 if model else 1
    page.get_by_role("button", name="Accept").click()
    settle(page, 1)
    assert "Partly reviewed" in (words.text_content() or "")
    assert "0.000 mm² changed" in page.locator(".lpd-review").inner_text()
    accepted = look("review-accepted")

    page.mouse.click(*middle)
    page.wait_for_function("window.__lpd.state.review.selected")
    page.keyboard.press(str(other + 1))
    settle(page, 2)
    relabelled = look("review-relabelled")
    assert (np.abs(relabelled - accepted).max(axis=2) > 30).mean() > 0.005
    page.keyboard.press("Control+z")
    settle(page, 3)
    assert (np.abs(look("review-undone") - accepted).max(axis=2) > 30).mean() < 0.001

    page.keyboard.press("d")
    page.keyboard.press("4")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 10, steps=5)
    page.mouse.up()
    settle(page, 4)
    page.mouse.move(middle[0] + 30, middle[1] + 5)
    page.wait_for_function("document.querySelector('.lpd-readout').textContent.includes('Necrosis')")
    page.wait_for_function("document.querySelector('.lpd-readout').textContent.includes('reviewed')")
    painted = look("review-painted")
    page.keyboard.press("Escape")
    assert not state()["review"]["active"]

    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen")
    settle(page, 4)
    assert "Partly reviewed" in (words.text_content() or "")
    assert (np.abs(look("review-reloaded") - painted).max(axis=2) > 30).mean() < 0.002
    page.locator("#lpd-layer-review").uncheck()
    page.wait_for_function("!window.__lpd.state.layers.mask.loading && window.__lpd.state.layers.mask.drawn")
    page.mouse.move(middle[0] + 30, middle[1] + 5)
    page.wait_for_function("!document.querySelector('.lpd-readout').textContent.includes('reviewed')")
    with page.expect_download() as download:
        page.locator("[data-review=labels]").click()
    labels = tifffile.imread(download.value.path())
    assert {model, 3, 255} <= set(np.unique(labels).tolist())
