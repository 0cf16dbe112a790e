"""Areas of a region, the report and the snapshot, by clicking."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from .test_layers_and_drawing import draw, settle, visit

if TYPE_CHECKING:
    from playwright.sync_api import Download, Page

pytestmark = pytest.mark.browser

State = Callable[[], dict[str, Any]]


def pixels(download: Download) -> np.ndarray:
    return np.asarray(Image.open(download.path()).convert("RGB")).astype(int)


def number(cell: str) -> float:
    """A percentage, or an area in mm²; small ones are told in µm²."""
    return float(cell.removesuffix(" µm²").replace(",", "")) / 1e6 if cell.endswith(" µm²") else float(cell)


def test_areas_report_and_snapshot(page: Page, app: Any, look: Any, state: State, tmp_path: Path) -> None:
    visit(page, app.url)
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.state === 'done'", timeout=120_000)
    settle(page, "mask")
    areas = page.locator(".lpd-areas")
    page.wait_for_function("document.querySelectorAll('.lpd-area-table tbody tr').length === 5")
    assert "Tumour to Stroma" in areas.inner_text()

    # A region: its areas add up to the rectangle's, less glass; figures and chart say the same.
    page.keyboard.press("e")
    draw(page, (350, 250), (550, 400))
    page.get_by_label("Name or note").fill("core <b>7</b>")
    page.locator(".lpd-osd").focus()
    page.wait_for_function("document.querySelector('.lpd-area-table thead').textContent.includes('core <b>7</b>')")
    cells = areas.locator("tbody tr").evaluate_all("rows => rows.map((r) => [...r.cells].map((c) => c.textContent))")
    tumour, stroma, lymphocytes, necrosis, tissue = ([number(cell) for cell in row[1:]] for row in cells)
    rectangle_mm2 = 200 * 150 / state()["scale"] ** 2 * (0.5 / 1000) ** 2
    assert 0 < tissue[2] <= rectangle_mm2 * 1.05
    assert sum(row[2] for row in (tumour, stroma, lymphocytes, necrosis)) == pytest.approx(tissue[2], abs=0.0021)
    assert sum(row[3] for row in (tumour, stroma, lymphocytes, necrosis)) == pytest.approx(100, abs=0.21)
    widths = areas.locator("svg rect").evaluate_all("rects => rects.map((r) => Number(r.getAttribute('width')))")
    assert sum(widths) == pytest.approx(2 * 256, abs=0.1)
    look("areas")

    # The report is one file that needs nothing else, regions with names in it.
    with page.expect_download() as report:
        page.get_by_role("button", name="Report", exact=True).click()
    assert report.value.suggested_filename.startswith("small-phantom-phantom-")
    path = tmp_path / "report.html"
    report.value.save_as(path)
    assert "core &lt;b&gt;7&lt;/b&gt;" in path.read_text(encoding="utf-8")
    complaints: list[str] = []
    other = page.context.new_page()
    other.on("console", lambda message: complaints.append(message.text))
    other.set_content(path.read_text(encoding="utf-8"))
    shown = other.locator("figure > svg image").evaluate_all(
        "images => images.map((i) => i.getBoundingClientRect().width)"
    )
    assert len(shown) == 2
    assert min(shown) > 100
    figure = other.locator("tr", has_text="core <b>7</b>").inner_text()
    assert f"{tumour[3]:.1f} %" in figure
    assert complaints == []
    other.close()

    # The snapshot shows what the screen shows, turned or not, over a strip with the legend.
    page.keyboard.press("Escape")
    for turns in (0, 1):
        if turns:
            page.keyboard.press("r")
            page.wait_for_timeout(900)
        settle(page, "mask")
        screen = look(f"snapshot-{turns}")
        with page.expect_download() as saved:
            page.keyboard.press("s") if turns else page.get_by_role("button", name=re.compile("Save a picture")).click()
        assert re.fullmatch(r"small-phantom_512_384_[\d.]+x\.png", saved.value.suggested_filename)
        picture = pixels(saved.value)
        height, width = screen.shape[:2]
        assert picture.shape[1] == width
        assert picture.shape[0] > height + 50
        middle = np.s_[height // 2 - 150 : height // 2 + 150, width // 2 - 150 : width // 2 + 150]
        assert np.abs(picture[middle] - screen[middle]).max(axis=2).mean() < 3
        strip = picture[height:]
        for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (153, 0, 255)):
            assert (np.abs(strip - colour).max(axis=2) == 0).sum() > 100
    page.locator("#lpd-layer-mask").uncheck()
    with page.expect_download() as saved:
        page.locator(".lpd-osd").focus()
        page.keyboard.press("s")
    strip = pixels(saved.value)[height:]
    assert not (np.abs(strip - (255, 0, 0)).max(axis=2) == 0).any()  # what is not shown has no place in the legend
