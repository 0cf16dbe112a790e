"""A person's way through the Slides tab: look, segment, watch, interrupt, come back, colour, take along."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lpd.classes import BCSS
from viewers.jobs import Jobs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Look = Callable[[str], np.ndarray]
State = Callable[[], dict[str, Any]]
GREY_SPREAD = 12  # the stage and the loading background are grey: red, green and blue within this of each other


def visit(page: Page, url: str, slide: str | None = None) -> None:
    """Open the page, and a slide in it as a person would; wait until its tiles are there."""
    page.goto(url)
    page.wait_for_function("window.__lpd?.ready")
    if slide:
        page.locator(".lpd-card", has_text=slide).click()
        page.wait_for_function("name => window.__lpd.slideOpen && window.__lpd.state.slide === name", arg=slide)
    page.wait_for_function("window.__lpd.slideOpen")
    page.wait_for_load_state("networkidle")


def coloured(picture: np.ndarray) -> float:
    """Share of the picture that is not grey: tissue is pink and violet."""
    return float((np.ptp(picture, axis=2) > GREY_SPREAD).mean())


def wait_for_job(page: Page, condition: str) -> None:
    page.wait_for_function(f"(({{ job, ...state }}) => {condition})(window.__lpd.state)", timeout=120_000)


@pytest.fixture
def freeze(app: Any) -> Iterator[Callable[[signal.Signals], None]]:
    """Halts (SIGSTOP) or continues (SIGCONT) the process of the app's only job.

    It may be one that all apps share: it goes on in any case.
    """
    halted: list[int] = []

    def signalled(what: signal.Signals) -> None:
        (job,) = Jobs(app.results).all()
        halted.append(job.run.pid)
        os.kill(job.run.pid, what)

    yield signalled
    for pid in halted:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def settle(page: Page) -> None:
    """Wait until no mask tile is on its way and what was fetched has been drawn."""
    page.wait_for_function("window.__lpd.state.maskLoading === 0 && window.__lpd.state.maskDrawn > 0")
    page.wait_for_timeout(300)


def test_a_slide_opens_by_itself_and_answers_to_keys(page: Page, app: Any, look: Look, state: State) -> None:
    visit(page, app.url)
    assert coloured(look("open")) > 0.3
    home = state()["scale"]
    page.keyboard.press("+")
    page.wait_for_function("home => window.__lpd.state.scale > home * 1.4", arg=home)
    x = state()["region"][0]
    page.keyboard.press("ArrowRight")
    page.wait_for_function("x => window.__lpd.state.region[0] > x", arg=x)
    page.keyboard.press("0")
    page.wait_for_function("home => Math.abs(window.__lpd.state.scale / home - 1) < 0.01", arg=home)
    assert "µm" in page.locator(".lpd-scalebar").inner_text()
    assert page.locator(".navigator").is_visible()


def test_resolution_is_asked_once_and_remembered(page: Page, app: Any) -> None:
    visit(page, app.url, "plain.png")
    button = page.get_by_role("button", name="Segment slide")
    assert button.is_disabled()
    assert "does not say its resolution" in page.locator(".lpd-question").inner_text()
    page.get_by_label("µm per pixel").fill("20")  # which people take the magnification for
    page.get_by_role("button", name="Use").click()
    page.get_by_text("If 20 is the magnification, a 20× scan has 0.5").wait_for()
    page.get_by_role("button", name="change").click()
    page.get_by_label("µm per pixel").fill("0.5")
    page.get_by_role("button", name="Use").click()
    page.locator(".lpd-facts .lpd-caution").wait_for(state="detached")
    page.wait_for_function("!document.querySelector('.lpd-primary').disabled")
    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen")
    assert page.locator(".lpd-facts h2").inner_text() == "plain.png"
    assert page.locator(".lpd-question").is_hidden()
    assert button.is_enabled()


@pytest.mark.skipif(os.name == "nt", reason="halts a process with a POSIX signal")
def test_mask_grows_survives_reload_and_restart_and_stops(
    page: Page, app: Any, look: Look, state: State, freeze: Callable[[signal.Signals], None]
) -> None:
    visit(page, app.url, "large-phantom.tif")
    before = look("before")
    page.get_by_label("Run on").select_option("cpu")
    page.get_by_role("button", name="Segment slide").click()
    wait_for_job(page, "job?.state === 'running' && state.maskRevision >= 2")
    freeze(signal.SIGSTOP)  # so that a fast machine is not done before the test has looked
    settle(page)
    growing = look("growing")
    assert not state()["job"]["ended"]
    assert (np.abs(growing - before).max(axis=2) > 40).mean() > 0.005
    job = state()["job"]["id"]

    page.reload()
    page.wait_for_function("window.__lpd?.slideOpen")
    wait_for_job(page, f"job?.id === '{job}' && !job.ended && state.maskRevision >= 2")
    settle(page)

    app.kill()
    page.wait_for_function("document.querySelector('.lpd-pace').textContent.includes('does not answer')")
    app.start()
    page.wait_for_function("!document.querySelector('.lpd-pace').textContent.includes('does not answer')")
    look("restarted")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.wait_for_function("document.querySelector('.lpd-work').textContent.includes('Stopping')")
    freeze(signal.SIGCONT)
    wait_for_job(page, f"job.id === '{job}' && job.state === 'cancelled'")
    assert page.get_by_role("button", name="Segment slide").is_enabled()
    settle(page)
    assert (np.abs(look("cancelled") - before).max(axis=2) > 40).mean() > 0.005


def test_finished_result_is_coloured_without_asking_again(page: Page, app: Any, look: Look, state: State) -> None:
    visit(page, app.url, "small-phantom.tif")
    before = look("small-before")
    page.get_by_role("button", name="Segment slide").dblclick()
    wait_for_job(page, "job?.ended")
    assert state()["job"]["state"] == "done"
    assert len(Jobs(app.results).all()) == 1  # however nervous the hand
    settle(page)
    finished = look("finished")
    assert (np.abs(finished - before).max(axis=2) > 40).mean() > 0.2

    fetches = state()["maskFetches"]
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    boxes = page.locator(".lpd-legend-row input[type=checkbox]")
    for index in range(boxes.count()):
        boxes.nth(index).uncheck()
        page.wait_for_timeout(150)
    assert np.abs(look("hidden") - before).mean() < 1
    shares = [float(row.split()[-2]) for row in page.locator(".lpd-legend-row:has(input)").all_inner_texts()]
    largest = int(np.argmax(shares))
    boxes.nth(largest).check()
    page.get_by_label("Tissue classes: opacity").fill("1")
    page.wait_for_timeout(300)
    opaque = look("opaque")
    changed = np.abs(opaque - before).max(axis=2) > 0
    colour = BCSS.palette()[largest].astype(int)
    assert (opaque == colour).all(axis=2).sum() > 0.9 * changed.sum() > 10_000  # its own colour, nothing in between
    assert state()["maskFetches"] == fetches
    assert [url for url in requests if "/layers/" in url] == []

    with page.expect_download() as download:
        page.locator("[data-kind=geojson]").click()
    collection = json.loads(download.value.path().read_text())
    assert collection["type"] == "FeatureCollection"
    assert collection["features"]
    assert "tissue" in page.locator(".lpd-legend-head").inner_text()

    job = state()["job"]["id"]
    page.get_by_role("button", name="Segment slide").click()  # there is nothing to compute
    page.get_by_text("here is the result").wait_for()
    assert [found.id for found in Jobs(app.results).all()] == [job]
    look("shown again")
    page.get_by_role("button", name="Compute anew").click()
    wait_for_job(page, f"job?.id !== '{job}'")
    assert len(Jobs(app.results).all()) == 2


def test_a_result_that_is_deleted_gives_the_buttons_back(page: Page, app: Any) -> None:
    visit(page, app.url, "large-phantom.tif")
    page.get_by_role("button", name="Segment slide").click()
    wait_for_job(page, "job?.state === 'running'")
    (job,) = Jobs(app.results).all()
    (job.folder / "job.json").unlink()
    page.wait_for_function("document.querySelector('.lpd-toasts').textContent.includes('was deleted')")
    assert page.get_by_role("button", name="Segment slide").is_enabled()
    os.kill(job.run.pid, signal.SIGTERM)


def test_only_the_view_is_segmented_when_asked(page: Page, app: Any, state: State) -> None:
    visit(page, app.url, "large-phantom.tif")
    for _ in range(4):
        page.keyboard.press("+")
        page.wait_for_timeout(450)
    view = state()["region"]
    page.get_by_role("button", name="Segment view").click()
    wait_for_job(page, "job?.ended")
    job = state()["job"]
    assert job["state"] == "done"
    region = page.evaluate("id => fetch(`/api/jobs/${id}`).then((r) => r.json())", job["id"])["region_l0"]
    assert np.abs(np.array(region) - view).max() <= 1
    assert "view" in page.get_by_label("Result").inner_text()
