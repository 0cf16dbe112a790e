"""The whole loop in one go: tiles ticked, trained on, stopped, gone on with, published, a slide segmented."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lpd.model.header import read_info
from tests.browser.test_labels import STEP, at

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import App

pytestmark = pytest.mark.browser

EPOCHS, TILES, BATCH = 24, 12, 2
STEPS = EPOCHS * TILES // BATCH


def tick_tiles(page: Page) -> None:
    """All tiles of the phantom, by turns of two classes, in a label set with the classes of the shipped model."""
    page.wait_for_function("window.__lpd?.ready")
    page.locator(".lpd-card", has_text="small-phantom.tif").click()
    page.wait_for_function("window.__lpd.slideOpen")
    page.keyboard.press("t")
    page.locator("#lpd-label-name").fill("first")
    page.locator("#lpd-label-mpp").fill("1")
    page.get_by_label("Pixels along").select_option("128")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_function("window.__lpd.state.labels.grid")
    for number in range(TILES):
        page.mouse.click(*at(page, (number % 4 + 0.5) * STEP, (number // 4 + 0.5) * STEP))
        page.keyboard.press("12"[number % 2])
    page.wait_for_function(
        "n => Object.keys(window.__lpd.state.labels.tiles).length === n && !window.__lpd.state.labels.busy", arg=TILES
    )


def hold_out(app: App) -> None:
    """Two tiles to score on, half of them of each class: as if somebody had reviewed a result."""
    folder = app.results.parent / "data" / "first"
    for place in ("img", "mask"):
        (folder / "valid" / place).mkdir(parents=True)
    mask = Image.fromarray(np.repeat(np.uint8([[0, 1]]), 64, 1).repeat(128, 0))
    for tile in sorted((folder / "train").iterdir())[:2]:
        name = f"v{tile.name.partition('[')[0]}.png"
        Image.open(tile).rotate(180).save(folder / "valid" / "img" / name)
        mask.save(folder / "valid" / "mask" / name)


def training(page: Page) -> dict[str, Any]:
    return dict(page.evaluate("window.__lpdTrain.state.trainings[0]"))


def until(page: Page, state: str) -> None:
    page.wait_for_function("state => window.__lpdTrain.state.trainings[0]?.state === state", arg=state, timeout=180_000)


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def fill_in(page: Page) -> None:
    page.get_by_label("Preset").select_option("tiny")
    page.locator('[data-path="encoder.name"]').evaluate("e => (e.closest('details').open = true)")
    small = {"encoder.name": "test_convnext", "prototypes.dim": "16", "optimizer.batch_size": str(BATCH)}
    for path, text in {**small, "loop.validate_every": "12", "optimizer.epochs": "0"}.items():
        page.locator(f'[data-path="{path}"]').fill(text)
    page.get_by_text("optimizer.epochs 0 must lie in 1").wait_for()
    assert page.get_by_role("button", name="Start", exact=True).is_disabled()
    page.locator('[data-path="optimizer.epochs"]').fill(str(EPOCHS))


def test_from_ticks_to_a_segmented_slide(app: App, page: Page, look: Callable[..., Any]) -> None:
    page.goto(app.url)
    tick_tiles(page)
    page.get_by_role("heading", name="Make a data set").click()
    page.locator(".lpd-label-plan").get_by_text(f"{TILES} tiles to train on").wait_for()
    page.get_by_role("button", name="Make data set").click()
    page.get_by_role("button", name="Train on it").click()
    page.get_by_text("No valid tiles with masks").wait_for()
    assert page.locator("#lpd-train-data option:checked").inner_text() == f"first · {TILES} tiles"
    hold_out(app)
    tab(page, "Slides")
    tab(page, "Train")  # who comes back sees what has changed
    page.get_by_text("No valid tiles with masks").wait_for(state="hidden")
    fill_in(page)
    page.get_by_text("The check found", exact=False).wait_for()
    look("train-new", ".lpd-train-stage")
    page.wait_for_function("() => !document.querySelector('.lpd-plan .lpd-primary').disabled")
    page.get_by_role("button", name="Start", exact=True).click()

    page.wait_for_function("window.__lpdTrain.state.curves.losses > 1", timeout=180_000)  # the curve moves
    page.get_by_role("button", name="Stop", exact=True).click()
    until(page, "cancelled")
    stopped = training(page)["progress"]["done"]
    assert 0 < stopped < STEPS
    look("train-stopped", ".lpd-train-stage")
    page.get_by_role("button", name="Resume").click()
    until(page, "running")
    app.kill()  # the trainer goes on, and the page says that the app is gone
    page.get_by_text("The app does not answer").wait_for()
    app.start()
    page.reload()
    page.wait_for_function("window.__lpd?.ready")
    tab(page, "Train")
    page.wait_for_function("window.__lpdTrain?.ready")
    until(page, "done")
    page.wait_for_function("steps => window.__lpdTrain.state.curves.last === steps", arg=STEPS)
    assert page.evaluate("window.__lpdTrain.state.curves.valid") > 1
    look("train-done", ".lpd-train-stage")

    page.get_by_role("button", name="Publish …").click()
    page.get_by_label("Intended use").fill("Phantoms.")
    page.get_by_role("dialog").get_by_label("Name of the model").fill("mine")
    page.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_text("mine is among the models now").wait_for()
    assert read_info(app.checkpoints / "mine.safetensors").classes.codes == ("TUM", "STR")
    assert "Phantoms." in (app.checkpoints / "mine.md").read_text()
    tab(page, "Slides")
    page.locator("#lpd-model").select_option("mine")
    page.get_by_role("button", name="Segment slide").click()
    page.wait_for_function("window.__lpd.state.job?.state === 'done'")
    page.wait_for_function("window.__lpd.state.maskDrawn > 0 && !window.__lpd.state.maskLoading")
    page.locator(".lpd-result").get_by_text("mine", exact=True).wait_for()
    look("train-segmented")
    compare(app, page, look)


def compare(app: App, page: Page, look: Callable[..., Any]) -> None:
    """The training beside one that differs in one setting, as if a terminal had made it."""
    runs = app.results.parent / "runs"
    (first,) = (path for path in runs.iterdir() if not path.name.startswith("."))
    shutil.copytree(first, runs / "another")
    config = runs / "another" / "config.yaml"
    config.write_text(config.read_text().replace(f"epochs: {EPOCHS}", "epochs: 7"))
    tab(page, "Train")
    for name in (first.name, "another"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare ticked").click()
    differs = page.locator(".lpd-differs", has_text="optimizer.epochs")
    differs.wait_for()
    assert sorted(differs.locator("td").all_inner_texts()) == [str(EPOCHS), "7"]
    look("train-compared", ".lpd-train-stage")
