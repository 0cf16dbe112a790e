"""A model made by clicking: settings checked, trained, stopped, found again after a kill, gone on with, published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lpd.model.header import read_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import App

pytestmark = pytest.mark.browser


def write_tiles(app: App) -> None:
    """Twelve training tiles of dark or striped 64 px, and four valid ones of both, with masks."""
    rng, folder = np.random.default_rng(0), app.results.parent / "data" / "toy"
    for place in ("train", "valid/img", "valid/mask"):
        (folder / place).mkdir(parents=True)

    def tile(mask: np.ndarray) -> Image.Image:
        stripes = 120 + 100 * (np.arange(64) % 6 < 3)[:, None] * np.ones((1, 64))
        picture = np.where(mask == 0, 60.0, stripes)[..., None] * np.array([1, 0.7, 0.9])
        return Image.fromarray((picture + rng.normal(0, 8, (64, 64, 3))).clip(0, 255).astype(np.uint8))

    for number in range(12):
        tile(np.full((64, 64), number % 2)).save(folder / "train" / f"t{number}[{('10', '01')[number % 2]}].png")
    for number in range(4):
        mask = np.tile(np.arange(64) < 16 + 8 * number, (64, 1)).astype(np.uint8)
        tile(mask).save(folder / "valid/img" / f"v{number}.png")
        Image.fromarray(mask).save(folder / "valid/mask" / f"v{number}.png")
    classes = "[{code: DAR, name: Dark, color: [200, 0, 0]}, {code: STR, name: Striped, color: [0, 120, 255]}]"
    (folder / "dataset.yaml").write_text(f"name: toy\nmpp: 1.0\nlicence: free\nclasses: {classes}\n")


def told(page: Page) -> dict[str, Any]:
    return dict(page.evaluate("window.__lpdTrain.state"))


def training(page: Page, name: str) -> dict[str, Any]:
    return next((one for one in told(page)["trainings"] if one["name"] == name), {})


def until(page: Page, name: str, state: str) -> None:
    page.wait_for_function(
        "([name, state]) => window.__lpdTrain.state.trainings.some((t) => t.name === name && t.state === state)",
        arg=[name, state],
    )


def open_tab(page: Page, app: App) -> None:
    page.goto(app.url)
    page.get_by_role("tab", name="Train").click()
    page.wait_for_function("window.__lpdTrain?.ready")


def test_from_tiles_to_a_model_by_clicking(app: App, page: Page, look: Callable[..., Any]):
    write_tiles(app)
    open_tab(page, app)
    page.get_by_label("Preset").select_option("tiny")
    page.locator('[data-path="encoder.name"]').evaluate("e => (e.closest('details').open = true)")
    for path, text in {"encoder.name": "test_convnext", "optimizer.epochs": "0", "prototypes.dim": "16"}.items():
        page.locator(f'[data-path="{path}"]').fill(text)
    page.get_by_text("optimizer.epochs 0 must lie in 1").wait_for()
    start = page.get_by_role("button", name="Start", exact=True)
    assert start.is_disabled()
    page.locator('[data-path="optimizer.epochs"]').fill("400")
    page.get_by_label("Name", exact=True).fill("my first")
    page.get_by_text("The check found", exact=False).wait_for()
    look("train-new", ".lpd-train-stage")
    page.wait_for_function("() => !document.querySelector('.lpd-plan .lpd-primary').disabled")
    start.click()

    page.wait_for_function("window.__lpdTrain.state.curves.valid > 1")  # the curve moves
    before = told(page)["curves"]
    assert page.locator(".lpd-chart polyline").count() > 1
    app.kill()  # the trainer goes on, and the page says that the app is gone
    page.get_by_text("The app does not answer").wait_for()
    app.start()
    open_tab(page, app)
    page.wait_for_function("steps => window.__lpdTrain.state.curves.last > steps", arg=before["last"])
    page.get_by_role("button", name="Stop", exact=True).click()
    until(page, "my first", "cancelled")
    stopped = training(page, "my first")["progress"]["done"]
    assert 0 < stopped < 400 * 2
    look("train-stopped", ".lpd-train-stage")

    page.get_by_role("button", name="Resume").click()
    until(page, "my first", "running")
    page.get_by_role("button", name="Kill").click()
    page.locator("dialog").get_by_role("button", name="Kill").click()
    until(page, "my first", "cancelled")

    page.get_by_role("button", name="Use settings").click()
    page.wait_for_function("() => document.querySelector('[data-path=\"optimizer.epochs\"]').value === '400'")
    page.locator('[data-path="optimizer.epochs"]').fill("1")
    page.get_by_label("Name", exact=True).fill("short")
    page.wait_for_function("() => !document.querySelector('.lpd-plan .lpd-primary').disabled")
    start.click()
    until(page, "short", "done")

    page.get_by_role("button", name="Publish …").click()
    page.get_by_label("Intended use").fill("Stripes.")
    page.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_text("short is among the models now").wait_for()
    assert read_info(app.checkpoints / "short.safetensors").classes.codes == ("DAR", "STR")
    assert "Stripes." in (app.checkpoints / "short.md").read_text()

    for name in ("my first", "short"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare ticked").click()
    differs = page.locator(".lpd-differs", has_text="optimizer.epochs")
    differs.wait_for()
    assert sorted(differs.locator("td").all_inner_texts()) == ["1", "400"]
    look("train-compared", ".lpd-train-stage")
