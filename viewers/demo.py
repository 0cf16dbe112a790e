"""The demo slide: made by the phantom once, in a process of its own, when there is no slide to look at."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from lpd.errors import LpdError
from lpd.slide.endings import is_slide_path

_NAME = "phantom-demo.tif"
_PROJECT = Path(__file__).resolve().parents[1]


def needs_demo(slides: Path) -> bool:
    """True if there is no slide in ``slides`` or below."""
    return not any(is_slide_path(path) for path in slides.rglob("*"))


def make_demo_slide(slides: Path, size: tuple[int, int] = (6144, 4608)) -> Path:
    """Write a synthetic slide of ``size`` (width, height) into ``slides``; takes some seconds.

    Raises:
        LpdError: it could not be made; nothing is left behind.
    """
    path = slides / _NAME
    try:
        slides.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=slides, prefix=".making-") as folder:
            made = Path(folder) / _NAME
            _run_phantom(made, size)
            made.replace(path)
    except OSError as error:
        raise LpdError(f"the demo slide {path} could not be made ({error.strerror or error})") from error
    return path


def _run_phantom(path: Path, size: tuple[int, int]) -> None:
    # A child process, because making the picture needs memory and libraries that the server never needs again.
    command = [sys.executable, "-m", "lpd", "phantom", "slide", str(path), "--size", *map(str, size)]
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    if done.returncode or not path.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LpdError(f"the demo slide could not be made ({reason}): put a slide of your own into the slides folder")
