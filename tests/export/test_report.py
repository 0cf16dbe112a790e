"""The report: its figures, what it says of where they come from, and that nothing in it can act or ask for anything."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpd.classes import ClassScheme, TissueClass
from lpd.errors import ResultError
from lpd.export import region_areas
from lpd.export.report import ReportParts, make_report, write_report
from lpd.slide.annotations import DrawnRegion
from lpd.slide.array_source import ArraySource
from lpd.slide.polygon import Polygon
from lpd.slide.resolution import Resolution
from lpd.slide.slide import Slide

from .conftest import HandMade, HandMadeMeta

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "phantom-learnable-mobilenetv2_100.safetensors"
NASTY = '"><script>alert(1)</script>\u202e&\n'
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)


class Reader(HTMLParser):
    """The text, tags and attributes of a page, and the cells of its tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.text += " " if tag in ("td", "th", "br", "dd", "dt", "p", "li", "text") else ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self.lasttag == "style" else data


@pytest.fixture
def store() -> HandMade:
    """200 × 100 mask pixels of 1 µm: three quarters tumour, the rest stroma."""
    mask = np.zeros((100, 200), np.uint8)
    mask[:, 150:] = 1
    return HandMade(mask, HandMadeMeta(400, 200, slide_fingerprint="fp"))


@pytest.fixture
def slide() -> Slide:
    pixels = np.full((200, 400, 3), (200, 100, 150), np.uint8)
    return Slide(Path("/secret/ward/a <b>.svs"), ArraySource(pixels), Resolution(0.5, "slide properties"), "fp")


def region(name: str, x0: float, x1: float) -> DrawnRegion:
    return DrawnRegion(name, (Polygon((((x0, 0.0), (x1, 0.0), (x1, 200.0), (x0, 200.0)),)),))


def test_figures(store: HandMade, slide: Slide) -> None:
    page = make_report(store, ReportParts(slide, regions=[region("left", 0, 200), region("", 200, 400)], created=WHEN))
    text = " ".join(Reader(page).text.split())
    assert "Tumour 0.015 75.0 %" in text
    assert "Stroma 5,000 µm² 25.0 %" in text
    assert "Tumour to Stroma 3.00 : 1 (stroma is 25.0 % of both)" in text
    assert "1 left 0.010 0.010 0.010 100.0 % 0.000 0.0 %" in text
    assert "2 Region 2 0.010 0.010 5,000 µm² 50.0 % 5,000 µm² 50.0 %" in text
    assert "a <b>.svs 2026-01-02 03:04 UTC Research use only. Not a medical device." in text
    assert "0.5 µm/px (slide properties)" in text
    assert "secret" not in page
    assert "Only " not in text
    assert "The checkpoint file was not at hand: its scores are not shown." in text


def test_it_asks_for_nothing_and_does_nothing(store: HandMade, slide: Slide) -> None:
    meta = replace(store.meta, notice=NASTY, checkpoint_name=NASTY, settings={"tissue": NASTY, "refinement": NASTY})
    meta = replace(meta, classes=ClassScheme((TissueClass("A", NASTY, (1, 2, 3)), TissueClass("B", "B", (0, 0, 0)))))
    manifest = {
        "slide": {"vendor": NASTY, "mpp_origin": NASTY},
        "versions": {"lpd": NASTY},
        "summary": {"device": NASTY},
    }
    parts = ReportParts(slide, manifest, None, [region(NASTY, 0, 100)], NASTY, NASTY, WHEN, NASTY)
    page = make_report(HandMade(store.mask, meta), parts)
    read = Reader(page)
    assert not {"script", "b", "iframe", "link", "a", "form"} & set(read.tags)
    assert "\u202e" not in page
    addresses = [value for name, value in read.attributes if name in ("href", "src", "action", "xlink:href")]
    assert len(addresses) == 2
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in addresses)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]
    policy = next(value for name, value in read.attributes if name == "content" and value and "default-src" in value)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}';")
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_pictures_show_the_slide_and_the_classes(store: HandMade, slide: Slide) -> None:
    page = make_report(store, ReportParts(slide, created=WHEN))
    plain, classes = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        for data in re.findall(r'href="data:image/jpeg;base64,([^"]+)"', page)
    )
    assert plain.shape == classes.shape == (200, 400, 3)
    assert np.abs(plain - (200, 100, 150)).max() <= 3
    assert np.abs(classes[100, 100] - (200 + 55 * 0.45, 100 * 0.55, 150 * 0.55)).max() <= 4
    assert np.abs(classes[100, 350] - (200 * 0.55, 100 + 155 * 0.45, 150 * 0.55)).max() <= 4


def test_a_part_of_a_slide_is_called_one(store: HandMade, slide: Slide) -> None:
    store.mask[:, 100:] = 255
    page = Reader(
        make_report(store, ReportParts(slide, regions=[region("r", 100, 300)], unfinished="was not finished"))
    )
    text = " ".join(page.text.split())
    assert "The result was not finished. Only 50.0 % of the slide was segmented: all figures are of that part" in text
    assert "grey: not segmented" in text
    assert "1 r 0.010 5,000 µm² 5,000 µm² 100.0 % 0.000 0.0 % 0.000 0.0 % 0.000 0.0 % – 50.0 %" in text


def test_another_slide_is_not_shown(store: HandMade, slide: Slide) -> None:
    slide.fingerprint = "other"
    page = make_report(store, ReportParts(slide, {"slide": {"path": r"C:\ward\b.svs", "vendor": "aperio"}}))
    text = Reader(page).text
    assert "not the one that was segmented" in text
    assert "<h1>b.svs</h1>" in page
    assert "ward" not in page
    assert page.count("data:image/jpeg") == 1
    assert "The slide file was not at hand" in Reader(make_report(store, ReportParts())).text


def test_scores_are_those_of_the_very_file(store: HandMade) -> None:
    digest = f"sha256:{hashlib.sha256(SHIPPED.read_bytes()).hexdigest()}"
    mine = HandMade(store.mask, replace(store.meta, checkpoint_digest=digest))
    text = " ".join(Reader(make_report(mine, ReportParts(checkpoint=SHIPPED))).text.split())
    # From the model card beside it.
    assert "gate predicted, background ignored mIoU 84.7 to 91.0 (95 %, over 4 groups) 89.1 89.5 92.8 85.4 88.7" in text
    assert "mobilenetv2_100, prototypes: 3 a class (learnable)" in text
    other = " ".join(Reader(make_report(store, ReportParts(checkpoint=SHIPPED))).text.split())
    assert "The checkpoint file has changed since: its scores are not shown." in other
    assert "89.1" not in other


def test_protocol(store: HandMade) -> None:
    meta = replace(store.meta, backend="torch-bf16", settings={"adapt": True, "tissue": "auto", "tta": True})
    manifest = {
        "summary": {"adapted_windows": 7, "device": "cuda"},
        "versions": {"lpd": "9", "numpy": "1"},
        "parts": [{}],
    }
    text = " ".join(Reader(make_report(HandMade(store.mask, meta), ReportParts(manifest=manifest))).text.split())
    for words in ("adapted to this slide, from 7 windows of it", "torch-bf16 on cuda", "the whole slide", "lpd 9"):
        assert words in text
    assert "Test-time augmentation yes" in text
    not_adapted = HandMade(store.mask, replace(meta, settings={"adapt": False, "region": {"x_l0": 1, "y_l0": 2,
                           "width_l0": 3, "height_l0": 4}}))  # fmt: skip
    text = " ".join(Reader(make_report(not_adapted, ReportParts())).text.split())
    assert "not adapted to the slide" in text
    assert "a rectangle: x 1, y 2, 3 × 4 px" in text


def test_no_tissue(store: HandMade) -> None:
    text = Reader(make_report(HandMade(np.full_like(store.mask, 4), store.meta), ReportParts())).text
    assert "no tissue" in text


def test_it_cannot_be_written(store: HandMade, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match=r"report\.html"):
        write_report(store, tmp_path / "file" / "report.html", ReportParts())


def test_a_tangled_region_takes_the_report_from_nobody(store: HandMade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_areas, "_MOST_CROSSINGS", 0)
    text = Reader(make_report(store, ReportParts(regions=[region("lace", 0, 100)], created=WHEN))).text
    assert "lace is left out: " in text
    assert "draw it simpler." in text
