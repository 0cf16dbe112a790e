"""A page that is not ours, with OpenSeadragon as it comes, shows a slide from its Deep Zoom descriptor alone."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lpd.slide.opening import open_slide
from viewers.static_routes import openseadragon_url

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

_PAGE = """<!doctype html><style>body {{ margin: 0 }} #stage {{ width: 600px; height: 450px }}</style>
<div id=stage></div><script src="/{script}"></script><script>
viewer = OpenSeadragon({{
  id: 'stage', tileSources: '{descriptor}', showNavigationControl: false, homeFillsViewer: true
}});
</script>"""

_DESCRIPTOR = """async () => {
  const { slides } = await (await fetch('/api/slides')).json();
  return slides.find((one) => one.name === 'small-phantom.tif')?.dzi;
}"""


def test_a_stock_page_reads_the_descriptor(page: Page, app: Any) -> None:
    page.goto(app.url)
    deadline = time.monotonic() + 60
    while not (descriptor := page.evaluate(_DESCRIPTOR)):  # files are looked into one after another
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    text = _PAGE.format(script=openseadragon_url(), descriptor=descriptor)
    page.route("**/stock", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(app.url + "/stock")
    page.wait_for_function("viewer.world.getItemAt(0)?.getFullyLoaded()")
    size = page.evaluate("(({ x, y }) => [x, y])(viewer.world.getItemAt(0).getContentSize())")
    page.wait_for_timeout(1500)  # tiles fade in
    shown = Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")
    with open_slide(app.slides / "small-phantom.tif") as opened:
        assert size == [opened.width_l0, opened.height_l0]
        expected = Image.fromarray(opened.thumbnail(600)).resize((600, round(600 * opened.height_l0 / opened.width_l0)))
    top = (expected.height - 450) // 2
    both = [np.asarray(one.convert("RGB")).astype(float) for one in (shown, expected.crop((0, top, 600, top + 450)))]
    assert np.abs(both[0] - both[1]).mean() < 6
