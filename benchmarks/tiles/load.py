"""Eight people over HTTP, alone and while the app segments the slide: how long each of their tiles takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.tiles.servers import ask, running_app, running_peer, segmenting
from benchmarks.tiles.viewers import Address, Waits, look
from lpd.slide.deepzoom import DeepZoom

CONDITIONS = ("alone", "while a slide is segmented")


@dataclass(frozen=True)
class Load:
    """Waits of one contestant under one condition: medians of the rounds.

    Attributes:
        p50_ms, p95_ms: milliseconds from wish to last byte; not a number if nobody got beyond the first screen.
        cpu_ms: CPU time that the server took for a tile, the first screens' included.
        tiles: that were waited for while panning, in all rounds.
    """

    condition: str
    name: str
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    tiles: int


def under_load(slide: Path, checkpoint: Path, people: int, seconds: float, rounds: int) -> list[Load]:
    """Contestants take turns; for "first sight" each turn has a copy of the slide that nobody has asked for."""
    found: dict[tuple[str, str], list[tuple[Waits, float]]] = {}
    with TemporaryDirectory(prefix="lpd-tiles-") as temporary:
        folder = Path(temporary)
        (folder / "slides").mkdir()
        for number in range(2 * rounds + 1):
            copy = folder / "slides" / f"{number}{slide.suffix}"
            shutil.copyfile(slide, copy)
            with copy.open("ab") as file:
                file.write(bytes([number]))  # another fingerprint
        with (
            running_app(folder / "slides", folder / "results", checkpoint.parent) as app,
            running_peer(slide) as peer,
        ):
            slides = {entry["name"]: entry for entry in ask(app.port, "/api/slides")["slides"]}
            fresh = iter([slides[f"{number}{slide.suffix}"] for number in range(1, 2 * rounds + 1)])
            main = slides[f"0{slide.suffix}"]
            zoom = DeepZoom(main["width"], main["height"])
            for server, address in ((app, _ours(main)), (peer, _peers("generated"))):  # warm
                look(server.port, address, zoom, people, min(2.0, seconds), 0)
            for condition in CONDITIONS:
                busy = condition != CONDITIONS[0]
                with segmenting(app.port, main["id"], checkpoint.stem) if busy else nullcontext():
                    for turn in range(1, rounds + 1):
                        for name, server, address in (
                            ("the file's own bytes, always the same", peer, _peers("raw")),
                            ("ours, seen before", app, _ours(main)),
                            ("ours, first sight", app, _ours(next(fresh))),
                            ("DeepZoomGenerator + Pillow", peer, _peers("generated")),
                        ):
                            before = server.cpu_s()
                            waits = look(server.port, address, zoom, people, seconds, turn)
                            cost = 1000 * (server.cpu_s() - before) / len([*waits.seconds, *waits.first])
                            found.setdefault((condition, name), []).append((waits, cost))
    return list(_loads(found))


def _loads(found: dict[tuple[str, str], list[tuple[Waits, float]]]) -> Iterator[Load]:
    for (condition, name), turns in found.items():
        p50, p95 = (median(waits.ms[i] for waits, _ in turns) for i in (0, 1))
        count = sum(len(waits.seconds) for waits, _ in turns)
        yield Load(condition, name, p50, p95, median(cost for _, cost in turns), count)


def _ours(slide: dict[str, str]) -> Address:
    return lambda level, col, row: f"{slide['tiles']}/{level}/{col}_{row}.jpeg?f={slide['fingerprint']}"


def _peers(kind: str) -> Address:
    return lambda level, col, row: f"/{kind}/{level}/{col}_{row}.jpeg"
