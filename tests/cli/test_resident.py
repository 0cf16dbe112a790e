"""The resident worker: same results, models loaded once, nobody else's orders, and no slide lost when it goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.cli import main
from lpd.cli.resident_place import Card, Line, code_stamp, read_card, resident_folder, write_card
from lpd.cli.resident_server import Models, Server
from lpd.errors import RunError
from lpd.inference.store import ResultStore
from lpd.runs import Run, is_alive, read_state, request_stop

from .test_segment import checkpoint, paint, segment

__all__ = ["checkpoint"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LPD_RESIDENT", str(tmp_path / "resident"))
    folder = resident_folder()
    yield folder
    request_stop(folder)


@pytest.fixture
def worker(place: Path) -> Iterator[Server]:
    """A worker in this process, in threads of its own."""
    with Run(place, "resident") as run, Server() as server:
        write_card(place, Card(server.server_address[1], server.token, os.getpid(), server.stamp))
        stop = threading.Event()
        thread = threading.Thread(target=server.serve, args=(600.0, stop.is_set))
        thread.start()
        yield server
        stop.set()
        thread.join()
        run.complete()


def mask_of(folder: Path) -> np.ndarray:
    store = ResultStore.open(folder)
    return store.read_mask_px(0, 0, store.meta.mask_size)


def wait_until(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_slides_are_handed_over_and_come_out_the_same(worker, checkpoint, tmp_path, capsys, monkeypatch):
    slides = [paint(tmp_path / f"{name}.png", number) for number, name in enumerate("ab")]
    loaded = []
    real = Models.loaded
    monkeypatch.setattr(Models, "loaded", lambda *a: loaded.append(real(*a)) or loaded[-1])
    assert segment(tmp_path / "out", checkpoint, *slides) == 0
    assert segment(tmp_path / "again", checkpoint, slides[0]) == 0
    assert loaded[0] is loaded[1]  # the second command found the model there
    assert segment(tmp_path / "here", checkpoint, *slides, more=("--mpp", "0.5", "--resident", "no")) == 0
    assert len(loaded) == 2
    for name in "ab":
        np.testing.assert_array_equal(mask_of(tmp_path / "out" / name), mask_of(tmp_path / "here" / name))
        manifest = json.loads((tmp_path / "out" / name / "manifest.json").read_text())
        assert manifest["state"] == "done"
    np.testing.assert_array_equal(mask_of(tmp_path / "again" / "a"), mask_of(tmp_path / "here" / "a"))
    assert capsys.readouterr().out.count("a.png: ") == 3


def test_what_is_done_is_left_alone_by_the_worker_too(worker, checkpoint, tmp_path, capsys):
    slides = [paint(tmp_path / f"{name}.png", number) for number, name in enumerate("abc")]
    for _ in range(2):
        assert segment(tmp_path / "out", checkpoint, *slides) == 0
    assert capsys.readouterr().out.count("done before, nothing to do") == 3


def test_a_bad_slide_is_told_and_the_others_go_on(worker, checkpoint, tmp_path, capsys):
    (tmp_path / "bad.svs").write_bytes(b"II*\0" + bytes(500))
    assert segment(tmp_path / "out", checkpoint, tmp_path / "bad.svs", paint(tmp_path / "good.png")) == 1
    heard = capsys.readouterr()
    assert "lpd segment: bad.svs" in heard.err
    assert "good.png: " in heard.out


def test_what_holds_for_no_slide_is_said_once(worker, checkpoint, tmp_path, capsys):
    slide = paint(tmp_path / "a.png")
    assert segment(tmp_path / "out", checkpoint, slide, more=("--mpp", "0.5", "--device", "cuda")) == 1
    assert "lpd segment: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_worker_s_fails_that_slide_alone(worker, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lpd.cli.segmenting.Segmenter.segment", lambda *_: 1 / 0)
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "a.png")) == 1
    heard = capsys.readouterr().err
    assert "a.png: ZeroDivisionError" in heard
    assert "Traceback" in heard  # which the app keeps in the job's log


def test_two_commands_take_turns(worker, checkpoint, tmp_path):
    slides = [paint(tmp_path / f"{name}.png", number) for number, name in enumerate("ab")]
    worker.turns["cpu"].acquire()  # somebody computes
    threads = [threading.Thread(target=segment, args=(tmp_path / "out", checkpoint, slide)) for slide in slides]
    for thread in threads:
        thread.start()
    for name in "ab":
        wait_until(lambda name=name: read_state(tmp_path / "out" / name).message == "waiting for another slide")
    request_stop(tmp_path / "out" / "a")
    wait_until(lambda: read_state(tmp_path / "out" / "a").state == "cancelled")
    assert read_state(tmp_path / "out" / "b").state == "running"
    worker.turns["cpu"].release()
    for thread in threads:
        thread.join()
    assert read_state(tmp_path / "out" / "b").state == "done"


def test_a_slide_on_one_device_does_not_wait_for_one_on_another(worker, checkpoint, tmp_path, monkeypatch):
    # It is in the line of another device than the one it computes on.
    monkeypatch.setattr("lpd.inference.devices.choose_device", lambda _: torch.device("cuda"))
    with worker.turns["cpu"]:
        assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "a.png")) == 0
    assert read_state(tmp_path / "out" / "a").state == "done"


@pytest.mark.parametrize("token", ["", "0" * 32, None])
def test_nobody_who_cannot_read_the_folder_gives_orders(worker, place, checkpoint, tmp_path, token):
    card = read_card(place)
    assert card is not None
    with closing(Line.to(Card(card.port, token, card.pid, card.stamp))) as line:  # type: ignore[arg-type]
        line.send({"stamp": code_stamp(), "job": {}})
        assert line.receive() is None
    with socket.create_connection(("127.0.0.1", card.port)) as noise:
        noise.sendall(b"x" * 100_000)
        with suppress(ConnectionResetError):
            assert noise.recv(10) == b""


@pytest.mark.skipif(os.name == "nt", reason="POSIX rights")
def test_a_folder_that_others_may_look_into_is_refused(place):
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    place.chmod(0o755)
    with pytest.raises(RunError, match="open to others"):
        resident_folder()


def test_a_worker_of_other_code_is_not_used(worker, checkpoint, tmp_path, monkeypatch):
    worker.stamp = "older"
    monkeypatch.setattr("lpd.cli.resident_server.attempt", lambda *_: pytest.fail("used"))
    assert segment(tmp_path / "out", checkpoint, paint(tmp_path / "a.png")) == 0
    assert read_state(tmp_path / "out" / "a").state == "done"


def test_the_stamp_tells_code_and_gpus_apart(tmp_path, monkeypatch):
    before = code_stamp()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert code_stamp() != before
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert code_stamp() != before
    monkeypatch.undo()
    mask = os.umask(0o027)
    try:
        os.umask(0o007)
        other_rights = code_stamp()
        assert os.umask(0o007) == 0o007  # looked at, not changed
    finally:
        os.umask(mask)
    assert other_rights != before
    (tmp_path / "lpd").mkdir()
    (tmp_path / "lpd" / "__init__.py").write_text("")
    monkeypatch.setattr("lpd.cli.resident_place.lpd.__file__", str(tmp_path / "lpd" / "__init__.py"))
    other = code_stamp()
    (tmp_path / "lpd" / "__init__.py").write_text("1")
    assert len({before, other, code_stamp()}) == 3


def test_it_ends_when_nobody_comes(place):
    with Server() as server:
        started = time.monotonic()
        server.serve(0.5, lambda: False)
        assert 0.5 <= time.monotonic() - started < 10


def test_whoever_says_nothing_keeps_nobody_waiting(place, monkeypatch):
    monkeypatch.setattr("lpd.cli.resident_server._PATIENCE_S", 0.5)
    with Server() as server, socket.create_connection(server.server_address[:2]):
        server.handle_request()
        started = time.monotonic()
        server.serve(0.1, lambda: False)
    assert time.monotonic() - started < 10


def test_a_stop_is_heard_before_the_worker_answers(place, checkpoint, tmp_path, monkeypatch):
    with Run(place, "resident"), socket.create_server(("127.0.0.1", 0)) as deaf:
        write_card(place, Card(deaf.getsockname()[1], "0", os.getpid(), code_stamp()))
        process = command(tmp_path / "out", checkpoint, str(paint(tmp_path / "a.png")))
        connection, _ = deaf.accept()
        with connection:
            connection.recv(10)
            time.sleep(1)
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20) == 130
        assert process.stderr is not None
        process.stderr.close()
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX rights")
def test_a_user_without_a_name_has_a_folder_too(monkeypatch):
    for name in ("LPD_RESIDENT", "XDG_RUNTIME_DIR", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such uid"])
    assert str(os.getuid()) in str(resident_folder())


def test_a_model_that_was_written_anew_is_loaded_anew(checkpoint, tmp_path):
    models, path = Models(), tmp_path / "m.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    first = models.loaded(path, "cpu")
    assert models.loaded(path, "cpu") is first
    os.utime(path, ns=(1, 1))
    assert models.loaded(path, "cpu") is not first
    for number in range(3):
        (tmp_path / f"{number}.safetensors").write_bytes(checkpoint.read_bytes())
        models.loaded(tmp_path / f"{number}.safetensors", "cpu")
    assert len(models._loaded) == 2


def command(out: Path, checkpoint: Path, *more: str) -> subprocess.Popen[str]:
    words = ["segment", *more, "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen([sys.executable, "-m", "lpd", *words], stderr=subprocess.PIPE, text=True)


def large(path: Path) -> Path:
    """Seconds of work: 3,000 × 2,600 px of tissue."""
    from PIL import Image

    Image.open(paint(path)).resize((3000, 2600)).save(path)
    return path


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_worker_starts_serves_and_dies_and_no_slide_is_lost(place, checkpoint, tmp_path):
    slide = large(tmp_path / "a.png")
    more = (str(slide), "--threads", "1", "--mpp", "0.5", "--window", "64", "--stride", "64")
    first = command(tmp_path / "first", checkpoint, *more, "--resident", "start")
    folder = tmp_path / "first" / "a"
    wait_until(lambda: read_state(folder).state == "running" and read_state(folder).progress.done > 0)
    card = read_card(place)
    assert card is not None
    assert read_state(folder).pid == card.pid != first.pid

    os.kill(first.pid, signal.SIGINT)  # the command is asked to stop: slide saved, worker there
    assert first.wait(60) == 130
    assert read_state(folder).state == "cancelled"
    assert read_card(place) == card

    second = command(tmp_path / "second", checkpoint, *more)
    folder = tmp_path / "second" / "a"
    wait_until(lambda: read_state(folder).state == "running" and read_state(folder).progress.done > 0)
    second.kill()  # nobody waits any more: the slide is saved
    second.wait()
    wait_until(lambda: read_state(folder).state == "cancelled")
    assert read_card(place) == card

    third = command(tmp_path / "third", checkpoint, *more, "--force")
    folder, log = tmp_path / "third" / "a", tmp_path / "third" / "a" / "changes.jsonl"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 2)
    begun = log.read_text().splitlines()[0]
    os.kill(card.pid, signal.SIGKILL)
    assert third.wait(120) == 0, third.stderr
    assert read_state(folder).state == "done"
    assert read_state(folder).pid == third.pid
    assert log.read_text().splitlines()[0] == begun  # gone on with, --force or not
    assert not is_alive(place)
    for process in (first, second, third):
        assert process.stderr is not None
        process.stderr.close()
    assert (
        main(["segment", str(slide), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "here"), *more[1:]]) == 0
    )
    np.testing.assert_array_equal(mask_of(folder), mask_of(tmp_path / "here" / "a"))


def test_the_command_s_own_life(place, checkpoint, tmp_path):
    assert main(["resident", "--stop"]) == 1  # there is none
    process = subprocess.Popen([sys.executable, "-m", "lpd", "resident"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: read_card(place) is not None)
    rival = subprocess.run([sys.executable, "-m", "lpd", "resident"], capture_output=True, text=True, timeout=60)
    assert rival.returncode == 1
    assert "in use by another run" in rival.stderr
    assert main(["resident", "--stop"]) == 0
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert read_card(place) is None
