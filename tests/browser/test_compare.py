"""Two models' prototypes compared by clicking: maps computed, counterparts found, moved together, muted, inspected."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import CheckpointInfo, read_info

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Look = Callable[..., np.ndarray]
PAIR = ".lpd-pair"
SHIFT = 1  # the other model's prototype k is this one's k + 1

#: In every frame of two seconds: by how many pixels the two slides lie apart.
FRAMES = """() => new Promise((resolve) => {
  const apart = [], places = new Set(), end = performance.now() + 2000;
  const look = () => {
    const { left, right } = window.__lpdCompare.state;
    apart.push(Math.max(...left.place.map((value, i) => Math.abs(value - right.place[i]))));
    places.add(String(left.place));
    if (performance.now() < end) requestAnimationFrame(look);
    else resolve({ apart: Math.max(...apart), frames: apart.length, places: places.size });
  };
  requestAnimationFrame(look);
})"""


def permuted(folder: Path) -> int:
    """Put a second model beside the first, the prototypes of each class in another order; answers K."""
    (path,) = folder.glob("*.safetensors")
    network, info = load_checkpoint(path)
    per_class, classes = info.model.prototypes_per_class, info.classes.count
    order = [c * per_class + (k + SHIFT) % per_class for c in range(classes) for k in range(per_class)]
    own = load_file(path)["prototypes"]
    with torch.no_grad():
        network.prototypes.copy_(own[order].to(network.prototypes.dtype))
    save_checkpoint(folder / "permuted-phantom.safetensors", network, replace(info, prototype_source="kmeans_init"))
    return int(per_class)


def chosen(page: Page) -> list[str]:
    return page.locator(".lpd-prototype[aria-pressed=true]").all_text_contents()


def settle(page: Page) -> None:
    """Wait until all that is asked for is drawn."""
    page.wait_for_function(
        "['left', 'right'].every((side) => { const { heat, mask } = window.__lpdCompare.state[side];"
        " return heat.drawn && !heat.loading && !mask.loading })"
    )
    page.wait_for_timeout(300)


def test_prototypes_are_compared(page: Page, app: Any, look: Look) -> None:
    per_class = permuted(app.checkpoints)
    page.goto(app.url)
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("window.__lpdCompare?.ready")
    page.get_by_label("Slide to compare on").select_option(label="small-phantom.tif")
    page.wait_for_function("window.__lpdCompare.state.slide === 'small-phantom.tif'")
    sides = {side: page.locator(f".lpd-side[data-side={side}]") for side in ("left", "right")}
    page.get_by_label("Left: model").select_option("phantom-learnable-mobilenetv2_100")
    page.get_by_label("Right: model").select_option("permuted-phantom")
    page.get_by_role("button", name="Difference", exact=True).click()
    for side in sides.values():
        side.get_by_role("button", name="Compute maps").click()
    page.wait_for_function("window.__lpdCompare.state.matched", timeout=120_000)
    assert page.get_by_text("Compute maps").and_(page.locator(":visible")).count() == 0
    # The difference has grown with both results.
    page.wait_for_function(
        "() => { const { difference, left, right } = window.__lpdCompare.state;"
        " return difference.drawn && !difference.loading && difference.panels === left.panels + right.panels }"
    )
    page.get_by_role("button", name="Side by side", exact=True).click()

    # Either tab takes up what has come since, without a reload.
    page.get_by_role("tab", name="Slides").click()
    page.locator(".lpd-card", has_text="small-phantom").click()
    page.locator(".lpd-result-row", has_text="permuted-phantom").wait_for()
    shutil.copy(app.checkpoints / "permuted-phantom.safetensors", app.checkpoints / "late.safetensors")
    page.get_by_role("tab", name="Compare").click()
    sides["left"].get_by_role("option", name="late (kmeans_init)").wait_for(state="attached")
    assert page.get_by_label("Left: model").input_value() == "phantom-learnable-mobilenetv2_100"

    # What was permuted is found again: each row pairs k with the place it was moved to.
    rows = page.locator(".lpd-prototype-row").all_text_contents()
    first = page.locator(".lpd-class-chip").first.text_content() or ""
    expected = [f"{first} {k + 1}r 1.00{first} {(k - SHIFT) % per_class + 1}" for k in range(per_class)]
    assert rows == expected
    page.locator("[data-prototype=left-1]").click()
    assert chosen(page) == [f"{first} 2", f"{first} 1"]

    views = page.locator(PAIR)
    settle(page)
    both = look("compare-side", PAIR)
    half = both.shape[1] // 2
    page.locator("[data-prototype=left-0]").click()
    settle(page)
    assert (np.abs(look("compare-other", PAIR) - both).max(axis=2) > 30).mean() > 0.02

    # Fast moves: no frame shows two places.
    box = views.bounding_box()
    assert box
    page.evaluate(f"() => {{ window.__watched = ({FRAMES})() }}")
    page.mouse.move(box["x"] + half * 0.5, box["y"] + 300)
    page.mouse.wheel(0, -400)
    page.mouse.down()
    page.mouse.move(box["x"] + half * 0.5 - 180, box["y"] + 120, steps=6)
    page.mouse.up()
    page.mouse.move(box["x"] + half * 1.5, box["y"] + 300)
    page.mouse.wheel(0, 300)
    page.keyboard.press("r")
    seen = page.evaluate("() => window.__watched")
    assert seen["places"] > 5
    assert seen["apart"] < 0.01
    page.keyboard.press("R")
    page.keyboard.press("0")
    page.wait_for_timeout(800)

    # Muted and merged: mask and areas follow, and it can be taken back.
    page.locator("#lpd-compare-mask").check()
    page.locator(".lpd-looks").get_by_label("Opacity").fill("0")  # the maps hide nothing
    settle(page)
    whole = look("compare-mask", PAIR)
    page.locator(".lpd-edits summary").click()
    page.get_by_label("Right: class").select_option("STR")
    assert [text[:3] for text in chosen(page)] == [first, "STR"]  # each side has a class of its own …
    page.locator(".lpd-class-chip[data-class=LYM]").click()  # … until both are put to one
    lymphocytes = range(2 * per_class, 3 * per_class)
    for k in lymphocytes:
        page.locator(f"[data-prototype=left-{k}]").click()
        page.locator("[data-edit=left-mute]").click()
    page.locator(".lpd-edits td").first.wait_for()
    settle(page)
    muted = np.abs(look("compare-muted", PAIR) - whole).max(axis=2) > 30
    assert muted[:, :half].mean() > 0.1  # a class that has no prototype left is nowhere
    assert muted[:, half:].mean() < 0.001
    for _ in lymphocytes:
        page.locator("[data-edit=left-undo]").click()
    settle(page)
    assert (np.abs(look("compare-undone", PAIR) - whole).max(axis=2) > 30).mean() < 0.001

    # A name, and a copy of the model without a prototype, which is a model like any other.
    page.locator("[data-edit=left-name]").fill("small cells")
    page.keyboard.press("Tab")
    page.locator(".lpd-prototype", has_text="small cells").first.wait_for()
    page.locator("[data-edit=left-mute]").click()
    page.get_by_label("Name of the new model").fill("without one")
    page.get_by_role("button", name="Save as model").click()
    page.get_by_text("without one is among the models now").wait_for()
    info = read_info(app.checkpoints / "without one.safetensors")
    assert isinstance(info, CheckpointInfo)
    assert [len(own) for own in info.model.groups] == [per_class, per_class, per_class - 1, per_class]
    page.locator("[data-edit=left-reset]").click()

    page.locator(".lpd-merit summary").click()
    page.get_by_role("button", name="Union coverage").click()
    assert page.get_by_text("Share of the class's region in a tile").is_visible()
    page.locator(".lpd-tops summary").click()
    page.locator(".lpd-tops-row img").first.wait_for()
    before = page.evaluate("window.__lpdCompare.state.left.place")
    page.locator(".lpd-tops-row button").first.click()
    page.wait_for_function("before => String(window.__lpdCompare.state.left.place) !== String(before)", arg=before)

    for mode in ("Swipe", "Difference"):
        page.get_by_role("button", name=mode, exact=True).click()
        page.wait_for_timeout(700)
        look(f"compare-{mode.lower()}", PAIR)
        left, right = (page.evaluate(f"window.__lpdCompare.state.{side}.place") for side in ("left", "right"))
        assert left == pytest.approx(right, abs=0.01)
    page.get_by_role("button", name="Side by side", exact=True).click()
    page.get_by_role("button", name="Inspect a place").click()
    page.mouse.click(box["x"] + half * 0.5, box["y"] + 300)
    page.locator(".lpd-place > img:visible").wait_for()
    look("compare-place", PAIR)
    assert page.locator(".lpd-place > img").evaluate("image => image.naturalWidth") > 500
    page.keyboard.press("Escape")

    page.reload()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("window.__lpdCompare?.ready && window.__lpdCompare.state.matched")
    assert page.evaluate("window.__lpdCompare.state.right.model") == "permuted-phantom"

    # Another model takes the name of one whose maps are shown: that is said once, and they can be computed again.
    shutil.copy(app.checkpoints / "without one.safetensors", app.checkpoints / "permuted-phantom.safetensors")
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("window.__lpdCompare?.ready && window.__lpdCompare.state.matched")
    sides["right"].get_by_role("button", name="Compute maps").wait_for()
    assert not sides["left"].get_by_role("button", name="Compute maps").is_visible()
    assert page.get_by_text("permuted-phantom is another model now").count() == 1
    assert page.evaluate("window.__lpdCompare.errors") == []
