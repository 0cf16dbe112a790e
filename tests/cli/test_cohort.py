"""A folder of slides from end to end: bad files named, workers killed, the rest done once, and a table of it all."""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from lpd.cli import build_parser, workers
from lpd.cli.crew import Ended, lead
from lpd.cli.segmenting import Outcome
from lpd.cli.workers import segment_in_processes
from lpd.errors import RunError
from lpd.inference.changes import ChangeLog
from lpd.inference.cohort import CohortSlide, result_folders, slides_of
from lpd.inference.store import ResultStore
from lpd.runs import read_state
from lpd.slide.region import Region

from .test_segment import checkpoint, paint, segment

__all__ = ["checkpoint"]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b", "c")):
        paint(tmp_path / "slides" / f"{name}.png", number)
    (tmp_path / "slides" / "bad.svs").write_bytes(b"II*\0" + bytes(500))
    (tmp_path / "slides" / "notes.txt").touch()
    return tmp_path / "slides"


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cohort.csv").open(newline="", encoding="utf-8") as file:
        return {Path(row["slide"]).name: row for row in csv.DictReader(file)}


def arguments(out: Path, checkpoint: Path, *slides: Path) -> argparse.Namespace:
    words = ["segment", *map(str, slides), "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
    return build_parser().parse_args([*words, "--threads", "1", "--mpp", "0.5"])


def test_a_folder_is_segmented_and_told_of_in_a_table(cohort, checkpoint, tmp_path, capfd):
    out = tmp_path / "out"
    assert segment(out, checkpoint, cohort) == 1
    rows = table(out)
    assert {name: row["state"] for name, row in rows.items()} == {
        "a.png": "done",
        "b.png": "done",
        "bad.svs": "failed",
        "c.png": "done",
    }
    assert "bad.svs" in rows["bad.svs"]["reason"]
    assert rows["a.png"]["folder"] == "a"
    total = sum(float(rows["a.png"][f"{code}_mm2"]) for code in ("TUM", "STR", "LYM", "NEC"))
    assert total == pytest.approx(float(rows["a.png"]["tissue_mm2"]), abs=1e-5)
    assert total > 0
    assert all((out / name / "mask.ome.tif").exists() for name in "abc")
    heard = capfd.readouterr()
    assert "lpd segment: " in heard.err
    assert "a.png: " in heard.out

    before = {name: (out / name / "manifest.json").read_bytes() for name in "abc"}
    (cohort / "bad.svs").unlink()
    assert segment(out, checkpoint, cohort) == 0
    assert {name: row["state"] for name, row in table(out).items()} == dict.fromkeys(
        ("a.png", "b.png", "c.png"), "kept"
    )
    assert table(out)["b.png"]["TUM_mm2"] == rows["b.png"]["TUM_mm2"]
    assert {name: (out / name / "manifest.json").read_bytes() for name in "abc"} == before


def ended_once(folder: Path) -> bool:
    """Whether a result is whole, and nobody computed any of it after that."""
    lines = [json.loads(line) for line in (folder / "changes.jsonl").read_text().splitlines()]
    return ["complete" in line for line in lines].index(True) == len(lines) - 1


def kill_at_work(out: Path, deaths: int) -> threading.Thread:
    """Kill whatever process is at work in some slide's folder, so many times."""

    def kill() -> None:
        killed: set[int] = set()
        end = time.monotonic() + 300  # on a busy machine it takes minutes to be at work three times
        while len(killed) < deaths and time.monotonic() < end:
            for path in out.glob("*/state.json"):
                state = read_state(path.parent)
                if state.state in ("queued", "running") and state.pid not in killed:
                    killed.add(state.pid)
                    os.kill(state.pid, signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_killed_worker_is_replaced_and_its_slide_is_done(cohort, checkpoint, tmp_path):
    out = tmp_path / "out"
    folders = result_folders(slides_of([cohort]), out)
    killer = kill_at_work(out, 1)
    outcomes = list(segment_in_processes(folders, arguments(out, checkpoint, cohort), 2, 1))
    killer.join()
    assert sorted((o.slide.name, o.state) for o in outcomes) == [
        ("a.png", "done"),
        ("b.png", "done"),
        ("bad.svs", "failed"),
        ("c.png", "done"),
    ]
    assert all(ended_once(out / name) for name in "abc")
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_worker_that_dies_idle_costs_nothing(cohort, checkpoint, tmp_path):
    folders = result_folders(slides_of([cohort / "a.png", cohort / "b.png"]), tmp_path / "out")
    outcomes = segment_in_processes(folders, arguments(tmp_path / "out", checkpoint, cohort), 1, 1)
    first = next(outcomes)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    assert [first.state, *(o.state for o in outcomes)] == ["done", "done"]


class Dying:
    """A crew whose every process dies, after it has finished panels in these places."""

    def __init__(self, finished: list[list[int]], *, joining: bool = False) -> None:
        self._finished, self._hand, self._joining = finished, None, joining

    def begin(self, slide, folder, again) -> bool:
        if self._hand is None and self._finished:
            self._hand, log = slide, ChangeLog(folder / "changes.jsonl")
            folder.mkdir(parents=True, exist_ok=True)
            log.go_on() if again or self._joining else log.start()
            for x_l0 in self._finished.pop(0):
                log.append([Region(x_l0, 0, 1, 1)])
            return True
        return False

    def ended(self, wait_s: float) -> list[Ended]:
        hand, self._hand = self._hand, None
        return [Ended(hand, death="exit code -9")]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_slide_that_gets_further_is_not_given_up(tmp_path):
    folders = {CohortSlide(tmp_path / "a.png"): tmp_path / "a"}
    crew = Dying([[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1], [0, 1, 2, 3, 4]])  # the last two: no
    (outcome,) = lead(folders, crew)
    assert outcome.state == "failed"
    assert "3 times" in outcome.said
    assert not crew._finished


def test_a_further_part_gets_on_with_panels_that_an_earlier_part_has_too(tmp_path):
    folders = {CohortSlide(tmp_path / "a.png"): tmp_path / "a"}
    (tmp_path / "a").mkdir()
    log = ChangeLog(tmp_path / "a" / "changes.jsonl")
    log.start()
    log.append([Region(x_l0, 0, 1, 1) for x_l0 in range(4)])
    log.finish()
    log.begin_part()
    crew = Dying([[0], [1], [2], [3], [3], [0, 1]], joining=True)  # the last two: no
    (outcome,) = lead(folders, crew)
    assert outcome.state == "failed"
    assert "3 times" in outcome.said
    assert not crew._finished


@pytest.mark.slow
def test_a_slide_that_is_done_by_force_is_begun_anew_once(cohort, checkpoint, tmp_path):
    slide, folder = CohortSlide(cohort / "a.png"), tmp_path / "out" / "a"
    args = arguments(tmp_path / "out", checkpoint, slide.path)
    args.force = True
    assert [o.state for o in segment_in_processes({slide: folder}, args, 1, 1)] == ["done"]
    begun = []

    class Forgetful(workers._Processes):
        """Whose process does the slide to its end, and dies before it can say so."""

        def begin(self, slide, folder, again) -> bool:
            begun.append(again)
            return super().begin(slide, folder, again)

        def ended(self, wait_s: float) -> list[Ended]:
            ends = super().ended(wait_s)
            first = [end for end in ends if end.outcome and end.outcome.state == "done" and not any(begun)]
            return [Ended(end.slide, death="exit code -9") for end in first] or ends

    (outcome,) = lead({slide: folder}, Forgetful(args, 1, 1))
    assert outcome.state == "kept"
    assert begun[0] is False
    assert begun[-1] is True


def test_workers_that_never_get_to_a_slide_are_not_hired_for_ever(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_work", os.kill)  # called with a line, which is no process: it dies of that
    folders = result_folders(slides_of([cohort]), tmp_path / "out")
    with pytest.raises(RunError, match="10 processes died one after the other as they loaded the model"):
        list(segment_in_processes(folders, arguments(tmp_path / "out", checkpoint, cohort), 3, 1))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_slide_that_kills_every_worker_is_given_up(cohort, checkpoint, tmp_path):
    out = tmp_path / "out"
    folders = {CohortSlide(cohort / "a.png"): out / "a"}
    args = arguments(out, checkpoint, cohort)
    args.queue = tmp_path  # so that none of them gets any further
    with FileLock(tmp_path / "device-cpu.lock"):
        killer = kill_at_work(out, 3)
        (outcome,) = segment_in_processes(folders, args, 1, 1)
        killer.join()
    assert outcome.state == "failed"
    assert "a.png ended its process 3 times (exit code -9)" in outcome.said


def test_sigterm_saves_and_stops(cohort, checkpoint, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lpd", "segment", str(cohort), "--checkpoint", str(checkpoint), "--out", str(out)]
    command += ["--mpp", "0.5", "--device", "cpu", "--threads", "1", "--batch-size", "1", "--stride", "32"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
    end = time.monotonic() + 240
    while time.monotonic() < end and not list(out.glob("*/changes.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Traceback" not in errors
    states = [row["state"] for row in table(out).values()]
    assert "waiting" in states
    assert "stopped" in states or "done" in states
    assert all(
        json.loads(path.read_text())["state"] in ("cancelled", "done", "failed") for path in out.glob("*/state.json")
    )


def start(out: Path, checkpoint: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lpd", "segment", *words, "--checkpoint", str(checkpoint), "--out", str(out)]
    command += ["--mpp", "0.5", "--device", "cpu", "--threads", "1"]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root, start_new_session=True)


def test_a_stop_before_anything_has_begun_is_no_error(cohort, checkpoint, tmp_path):
    process = start(tmp_path / "out", checkpoint, str(cohort))
    time.sleep(2.5)  # the worker is loading its model
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert "FileNotFound" not in errors


def test_a_table_that_cannot_be_written_holds_up_no_slide(cohort, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "cohort.csv" / "in the way").mkdir(parents=True)
    (cohort / "bad.svs").unlink()
    assert segment(out, checkpoint, cohort) == 1
    assert capsys.readouterr().err.count("cohort.csv") == 1
    assert all((out / name / "manifest.json").exists() for name in "abc")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are always text")
def test_a_name_that_is_no_text_is_one_bad_slide(cohort, checkpoint, tmp_path):
    (cohort / "bad.svs").rename(os.fsdecode(os.fsencode(cohort) + b"/\xff.svs"))
    assert segment(tmp_path / "out", checkpoint, cohort) == 1
    states = {name: row["state"] for name, row in table(tmp_path / "out").items()}
    assert states == {"a.png": "done", "b.png": "done", "c.png": "done", "\\udcff.svs": "failed"}


def test_a_stop_among_slides_that_are_done_leaves_the_others_not_begun(
    cohort, checkpoint, tmp_path, monkeypatch, capsys
):
    from lpd.cli import segment as command

    def two(folders, *_: object):
        yield from [Outcome(slide.path, folder, "kept", "done before") for slide, folder in folders.items()][:2]

    monkeypatch.setattr(command, "_by_workers", two)
    assert segment(tmp_path / "out", checkpoint, cohort) == 130
    assert "stopped; 2 of 4 slides not begun" in capsys.readouterr().err


def test_what_is_stopped_in_the_queue_is_not_called_damaged(cohort, checkpoint, tmp_path):
    out = tmp_path / "out"
    with FileLock(tmp_path / "device-cpu.lock"):
        process = start(out, checkpoint, str(cohort / "a.png"), "--workers", "1", "--queue", str(tmp_path))
        end = time.monotonic() + 60
        while time.monotonic() < end and not (out / "a" / "state.json").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert table(out)["a.png"]["state"] == "stopped"


def test_a_way_to_compute_that_is_not_here_costs_no_result(cohort, checkpoint, tmp_path, capsys):
    slide, out = cohort / "a.png", tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    before = sorted(p.name for p in (out / "a").iterdir())
    assert segment(out, checkpoint, slide, more=("--mpp", "0.5", "--force", "--backend", "torch-fp16")) == 1
    assert "torch-fp16 is for GPUs" in capsys.readouterr().err
    assert sorted(p.name for p in (out / "a").iterdir()) == before


def test_a_result_without_pixels_is_made_again(cohort, checkpoint, tmp_path):
    slide, out = cohort / "a.png", tmp_path / "out"
    assert segment(out, checkpoint, slide) == 0
    shutil.rmtree(out / "a" / "result.zarr")
    assert segment(out, checkpoint, slide) == 0
    assert ResultStore.open(out / "a").changes().complete
