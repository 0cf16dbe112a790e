"""The app as a program: what it imports, which port it takes, what it says when it cannot start."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import app
from lpd.data.phantom import mask_path
from lpd.errors import LpdError
from lpd.slide.opening import open_slide
from viewers import demo, serving
from viewers.services import Services
from viewers.static_routes import STATIC

ROOT = Path(app.__file__).parent


def test_the_web_process_never_loads_torch_or_the_trainer(whole_app: Any) -> None:
    assert "viewers.web" in whole_app.modules
    assert {name.split(".")[0] for name in whole_app.modules} & {"torch", "timm", "torchvision"} == set()
    assert [name for name in whole_app.modules if name.startswith(("lpd.training", "lpd.cli", "lpd.losses"))] == []


def test_importing_the_room_writes_nothing_beside_it() -> None:
    assert list((ROOT / "viewers").rglob("*.pyi")) == []


def test_a_busy_port_is_said_so_and_the_default_moves_on() -> None:
    with serving.bind("127.0.0.1", None) as first, serving.bind("127.0.0.1", None) as second:
        ports = [s.getsockname()[1] for s in (first, second)]
        assert ports[0] < ports[1]
        with pytest.raises(LpdError, match=rf"port {ports[0]} is in use.*--port"):
            serving.bind("127.0.0.1", ports[0])


def test_an_address_of_another_machine_is_said_so() -> None:
    with pytest.raises(LpdError, match="--host"):
        serving.bind("203.0.113.7", 0)


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("pc7", "pc7")]
)
def test_the_printed_address_can_be_opened_on_this_machine(host: str, shown: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert serving.url_of(host, listening) == f"http://{shown}:{port}"


@pytest.mark.parametrize("flag", ["--slides", "--checkpoints"])
def test_a_missing_folder_ends_the_app_with_one_sentence(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("viewers.openseadragon.ensure", lambda: tmp_path)
    (tmp_path / "there").mkdir()
    flags = {"--slides": tmp_path / "there", "--checkpoints": tmp_path / "there", "--results": tmp_path / "results"}
    flags[flag] = tmp_path / "nowhere"
    arguments = [str(part) for pair in flags.items() for part in pair]
    assert app.main([*arguments, "--no-browser"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nowhere" in said
    assert flag in said


def test_flags_default_to_the_folders_beside_the_app() -> None:
    args = app.parse([])
    assert (args.slides, args.checkpoints, args.results) == (ROOT / "slides", ROOT / "checkpoints", ROOT / "results")
    assert (args.host, args.port, args.no_browser) == ("127.0.0.1", None, False)


def test_demo_slide_is_made_for_an_empty_folder_without_its_mask(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    assert demo.needs_demo(slides)
    path = demo.make_demo_slide(slides, (640, 512))
    assert [p.name for p in slides.iterdir()] == ["phantom-demo.tif"]
    assert not demo.needs_demo(slides)
    with open_slide(path) as slide:
        assert (slide.width_l0, slide.height_l0) == (640, 512)


def test_demo_slide_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LpdError, match="demo slide"):
        demo.make_demo_slide(tmp_path, (1, 1))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LpdError, match="demo slide"):
        demo.make_demo_slide(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_phantoms_mask_is_not_listed_as_a_slide(services: Services, slides: Path) -> None:
    for path in (slides / "made.tif", mask_path(slides / "made.tif"), slides / "alone.mask.tif"):
        Image.new("RGB", (40, 30), "white").save(path)
    listed = {file.relative for file in services.catalogue.files()}
    assert {"made.tif", "alone.mask.tif"} <= listed
    assert mask_path(slides / "made.tif").name not in listed


def test_our_files_ask_no_other_server() -> None:
    for path in STATIC.iterdir():
        addresses = set(re.findall(r"https?://[^\s'\")]+", path.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name


def test_our_scripts_never_turn_text_into_html() -> None:
    for path in STATIC.glob("*.js"):
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code), path.name
