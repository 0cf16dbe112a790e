"""With fingers alone, on a tablet: move, pinch, draw, correct a region, and switch a class off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from .test_review import LYMPHOCYTES, legend, settle, write_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Place = tuple[float, float]


@pytest.fixture
def tablet(app: Any, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True, is_mobile=True)
    context.add_init_script("localStorage.setItem('lpd.guided', 'true')")
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(60_000)
    yield page
    errors = page.evaluate("window.__lpd?.errors ?? []")
    context.close()
    assert wrong == errors == []


def slide_fingers(page: Page, begin: Sequence[Place], end: Sequence[Place]) -> None:
    """Put fingers down, move them in eight steps, and lift them."""
    client = page.context.new_cdp_session(page)

    def touch(kind: str, places: Sequence[Place]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(25)

    touch("touchStart", begin)
    for step in range(1, 9):
        parts = [
            (x + (to_x - x) * step / 8, y + (to_y - y) * step / 8)
            for (x, y), (to_x, to_y) in zip(begin, end, strict=True)
        ]
        touch("touchMove", parts)
    page.wait_for_timeout(300)  # fingers that rest before they are lifted do not throw the picture
    touch("touchMove", end)
    touch("touchEnd", [])
    client.detach()
    page.wait_for_timeout(900)  # the picture glides on


def test_a_tablet_does_what_a_mouse_does(tablet: Page, app: Any) -> None:
    write_result(app)
    tablet.goto(app.url)
    tablet.wait_for_function("window.__lpd?.ready")
    tablet.locator(".lpd-card", has_text="small-phantom.tif").tap()
    tablet.wait_for_function("window.__lpd.slideOpen && window.__lpd.state.review.revision === 0")
    assert tablet.evaluate("document.documentElement.scrollWidth") == 1024, "nothing sticks out"
    box = tablet.locator(".lpd-osd").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    home = tablet.evaluate("window.__lpd.state.region")

    # A region under a finger is corrected, its class chosen by tapping.
    tablet.get_by_role("button", name="Review", exact=True).tap()
    tablet.touchscreen.tap(x, y)
    tablet.wait_for_function("window.__lpd.state.review.selected")
    tablet.locator(".lpd-review-classes button").nth(LYMPHOCYTES).tap()
    settle(tablet, 1)
    assert legend(tablet)["Lymphocytes"] == "0.010"
    tablet.get_by_role("button", name="Done", exact=True).tap()
    tablet.locator("label", has_text="Lymphocytes").first.tap()
    assert not tablet.locator("[data-class=LYM]").is_checked()

    # One finger moves the slide, two make it larger, about the place between them.
    slide_fingers(tablet, [(x, y)], [(x - 100, y - 50)])
    moved = tablet.evaluate("window.__lpd.state.region")
    scale = tablet.evaluate("window.__lpd.state.scale")
    assert moved[0] - home[0] == pytest.approx(100 / scale, abs=25 / scale)
    assert moved[2] == pytest.approx(home[2], abs=2)
    slide_fingers(tablet, [(x - 40, y), (x + 40, y)], [(x - 120, y), (x + 120, y)])
    assert tablet.evaluate("window.__lpd.state.scale") == pytest.approx(3 * scale, rel=0.1)

    # A finger draws a rectangle as large as its way, and corners of a polygon.
    tablet.get_by_role("button", name="Draw a rectangle").tap()
    slide_fingers(tablet, [(x - 60, y - 40)], [(x + 60, y + 40)])
    assert tablet.evaluate("window.__lpd.state.shapes") == 1
    tablet.get_by_role("button", name="Draw a region").tap()
    for place in ((x - 90, y + 80), (x + 90, y + 80), (x, y + 150), (x - 90, y + 80)):
        tablet.touchscreen.tap(*place)
        tablet.wait_for_timeout(400)  # two taps in quick succession are one double tap
    tablet.wait_for_function("window.__lpd.state.shapes === 2 && window.__lpd.state.saved")

    # Whoever ticks tiles or reviews with a finger hits the button that was meant.
    for part in (".lpd-labels", ".lpd-review-tools"):
        heights = tablet.locator(f"{part} button").evaluate_all("all => all.map((b) => b.offsetHeight).filter(Boolean)")
        assert min(heights, default=40) >= 40, (part, heights)


def test_a_telephone_compares_two_results_and_has_the_controls(tablet: Page, app: Any) -> None:
    tablet.set_viewport_size({"width": 390, "height": 844})
    tablet.goto(app.url)
    tablet.wait_for_function("window.__lpd?.ready")
    tablet.get_by_role("tab", name="Compare").tap()
    tablet.locator(".lpd-compare .lpd-panel").wait_for()
    left, right = (tablet.locator(f".lpd-stage[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert left
    assert right
    assert left["x"] + left["width"] <= right["x"], "one lies beside the other"
    assert right["x"] + right["width"] <= 390
