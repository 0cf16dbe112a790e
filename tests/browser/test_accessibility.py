"""What axe, the accessibility checker, finds on the page: contrast, names of controls, landmarks, roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def test_axe_finds_nothing(page: Page, app: Any) -> None:
    page.goto(app.url)
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.slide === 'small-phantom.tif'")
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.state === 'done'", timeout=120_000)
    page.locator(".lpd-osd").focus()
    page.keyboard.press("v")
    in_both_schemes(page)

    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("window.__lpdCompare?.ready")
    page.get_by_label("Slide to compare on").select_option(label="small-phantom.tif")
    page.wait_for_function("window.__lpdCompare.state.slide === 'small-phantom.tif'")
    page.get_by_role("button", name="Compute maps").first.click()
    page.wait_for_function("window.__lpdCompare.state.matched", timeout=120_000)
    for details in page.locator(".lpd-compare details").all():
        details.locator("summary").click()
    page.locator("[data-edit=left-mute]").click()
    page.locator(".lpd-tops-row img").first.wait_for()
    in_both_schemes(page)


def in_both_schemes(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.wait_for_timeout(400)
        assert findings(page) == []
