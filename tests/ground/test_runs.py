"""Run folders: who is alive, who died, stop requests, and the queue for a device."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from filelock import FileLock

from lpd.errors import RunError, SlideError
from lpd.runs import (
    DeviceLine,
    Run,
    clear_temporaries,
    exists,
    is_alive,
    read_state,
    replacing,
    request_stop,
    write_json_atomically,
)


def _start_worker(folder, body, line=None):
    code = f"""
        import time
        from pathlib import *
        from lpd.runs import DeviceLine, Run
        with Run(Path({str(folder)!r}), "segment", line={line!r}) as run:
    """
    text = textwrap.dedent(code) + textwrap.indent(textwrap.dedent(body), "    ")
    return subprocess.Popen([sys.executable, "-c", text])


def _wait_for(folder, *states, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = read_state(folder)
        if state.state in states:
            return state
        time.sleep(0.05)
    raise AssertionError(f"still {read_state(folder).state}, not one of {states}")


def test_a_folder_without_a_run_is_new(tmp_path):
    assert read_state(tmp_path).state == "new"
    assert not is_alive(tmp_path)


def test_states_of_a_run_that_ends_well(tmp_path):
    with Run(tmp_path, "segment") as run:
        assert read_state(tmp_path).state == "running"
        assert is_alive(tmp_path)
        run.advance(0, 10)
        run.advance(10, 10)
        run.say("writing files")
    state = read_state(tmp_path)
    assert (state.state, state.kind, state.message) == ("done", "segment", "writing files")
    assert (state.progress.done, state.progress.total) == (10, 10)
    assert not is_alive(tmp_path)


def test_a_failure_leaves_its_sentence(tmp_path):
    with pytest.raises(SlideError), Run(tmp_path, "segment"):
        raise SlideError("a.svs is empty: copy it again")
    state = read_state(tmp_path)
    assert (state.state, state.message) == ("failed", "a.svs is empty: copy it again")


def test_killed_worker_is_crashed(tmp_path):
    worker = _start_worker(tmp_path, "time.sleep(60)")
    _wait_for(tmp_path, "running")
    worker.kill()
    worker.wait()
    assert _wait_for(tmp_path, "crashed").state == "crashed"
    with Run(tmp_path, "segment"):  # and the folder can be used again
        pass
    assert read_state(tmp_path).state == "done"


def test_stop_request_reaches_another_process(tmp_path):
    worker = _start_worker(tmp_path, "while not run.stop_requested(): time.sleep(.02)")
    _wait_for(tmp_path, "running")
    request_stop(tmp_path)
    assert _wait_for(tmp_path, "cancelled").state == "cancelled"
    assert worker.wait(10) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_is_a_stop_request(tmp_path):
    worker = _start_worker(tmp_path, "while not run.stop_requested(): time.sleep(.02)")
    _wait_for(tmp_path, "running")
    worker.terminate()
    assert worker.wait(10) == 0
    assert read_state(tmp_path).state == "cancelled"


def test_old_stop_request_does_not_stop_the_next_run(tmp_path):
    request_stop(tmp_path)
    with Run(tmp_path, "segment") as run:
        assert not run.stop_requested()


def test_one_writer_per_folder(tmp_path):
    worker = _start_worker(tmp_path, "time.sleep(60)")
    try:
        _wait_for(tmp_path, "running")
        with pytest.raises(RunError, match="in use"), Run(tmp_path, "segment"):
            pass
        assert read_state(tmp_path).state == "running"  # the refused one wrote nothing
    finally:
        worker.kill()
        worker.wait()


def test_runs_queue_for_a_device(tmp_path):
    line, first, second = DeviceLine(tmp_path, "cpu"), tmp_path / "a", tmp_path / "b"
    body = "while not run.stop_requested(): time.sleep(.02)"
    one = _start_worker(first, body, line)
    _wait_for(first, "running")
    two = _start_worker(second, body, line)
    _wait_for(second, "queued")
    request_stop(first)
    _wait_for(second, "running")
    assert one.wait(10) == 0
    request_stop(second)
    assert two.wait(10) == 0


def test_who_came_first_is_served_first(tmp_path):
    line, served = DeviceLine(tmp_path, "cpu"), []

    def work(number):
        with Run(tmp_path / str(number), "train", line=line):
            served.append(number)

    dead = tmp_path / f"device-cpu-{0:020d}-dead.wait"  # of a process that died while it waited
    dead.touch()
    with FileLock(line.lock):
        waiting = []
        for number in range(6):
            waiting.append(threading.Thread(target=work, args=(number,)))
            waiting[-1].start()
            _wait_for(tmp_path / str(number), "queued")
            until = time.monotonic() + 5
            while len(list(tmp_path.glob("*.wait"))) < number + 1 + dead.exists() and time.monotonic() < until:
                time.sleep(0.01)
    for thread in waiting:
        thread.join(10)
    assert served == list(range(6))
    assert not list(tmp_path.glob("*.wait"))


def test_runs_on_different_devices_do_not_wait_for_one_another(tmp_path):
    one, two = DeviceLine(tmp_path, "cpu"), DeviceLine(tmp_path, "cuda")
    with Run(tmp_path / "a", "segment", line=one), Run(tmp_path / "b", "train", line=two):
        said = [read_state(tmp_path / name) for name in "ab"]
    assert [(state.state, state.device) for state in said] == [("running", "cpu"), ("running", "cuda")]


def test_a_queued_run_can_be_cancelled(tmp_path):
    line, first, second = DeviceLine(tmp_path, "cpu"), tmp_path / "a", tmp_path / "b"
    one = _start_worker(first, "time.sleep(60)", line)
    try:
        _wait_for(first, "running")
        two = _start_worker(second, "raise AssertionError('must not start')", line)
        _wait_for(second, "queued")
        request_stop(second)
        assert _wait_for(second, "cancelled").message == "interrupted"
        two.wait(10)
    finally:
        one.kill()
        one.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps folders that are in use")
def test_a_deleted_run_ends_and_does_not_come_back(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="was deleted"), Run(folder, "segment"):
        shutil.rmtree(folder)
    assert not folder.exists()


def test_state_that_vanishes_between_two_looks_is_new(tmp_path, monkeypatch):
    (tmp_path / "state.json").write_text('{"state": "running", "progress": {}}')
    monkeypatch.setattr("lpd.runs.is_alive", lambda folder: (folder / "state.json").unlink())
    assert read_state(tmp_path).state == "new"


def test_foreign_state_file_is_refused(tmp_path):
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(RunError, match=r"state\.json"):
        read_state(tmp_path)


def _fail_half_way(target):
    with replacing(target) as temporary:
        temporary.write_text("half")
        raise ValueError("boom")


def test_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "file.json"
    write_json_atomically(target, {"a": 1})
    with pytest.raises(ValueError, match="boom"):
        _fail_half_way(target)
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_predecessors_leftovers_go(tmp_path):
    with replacing(tmp_path / "model.safetensors") as temporary:
        temporary.touch()
        leftover = tmp_path / temporary.name.replace(temporary.stem[-4:], "dead")
        leftover.touch()
    with Run(tmp_path, "train"):
        assert not leftover.exists()
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_stop_requests_inside_and_the_callers_own_outside(tmp_path, number):
    before = signal.getsignal(number)
    with Run(tmp_path, "segment") as run:
        assert not run.stop_requested()
        os.kill(os.getpid(), number)
        assert run.stop_requested()
    assert signal.getsignal(number) is before
    assert read_state(tmp_path).state == "cancelled"


def test_a_stop_that_comes_after_the_work_does_not_undo_it(tmp_path):
    with Run(tmp_path, "segment") as run:
        run.complete()
        request_stop(tmp_path)
        assert run.stop_requested()
    assert read_state(tmp_path).state == "done"


def test_the_first_error_is_the_one_to_hear_of(tmp_path, monkeypatch):
    def full(*_):
        raise RunError("cannot write state.json")

    def work():
        monkeypatch.setattr("lpd.runs.write_json_atomically", full)
        raise SlideError("a.svs is damaged")

    with pytest.raises(SlideError, match=r"a\.svs"), Run(tmp_path, "segment"):
        work()
    assert not is_alive(tmp_path)


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="choose another folder"), Run(folder, "train"):
            pass
    (tmp_path / "device-cpu.lock").mkdir()
    line = DeviceLine(tmp_path, "cpu")
    with pytest.raises(RunError, match=r"device-cpu\.lock"), Run(tmp_path / "run", "segment", line=line):
        pass


def test_who_needs_the_device_no_more_lets_the_next_one_have_it(tmp_path):
    line = DeviceLine(tmp_path, "cpu")
    body = f"""
        run.free_device()
        while not Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.02)
    """
    first = _start_worker(tmp_path / "first", body, line)
    _wait_for(tmp_path / "first", "running")
    with Run(tmp_path / "next", "segment", line=line):
        assert read_state(tmp_path / "first").state == "running"
    (tmp_path / "go").touch()
    assert first.wait() == 0
    assert read_state(tmp_path / "first").state == read_state(tmp_path / "next").state == "done"


@pytest.mark.parametrize("value", [float("nan"), "half a character \ud800"])
def test_what_is_no_json_is_refused_and_keeps_the_old_file(tmp_path, value):
    target = tmp_path / "file.json"
    write_json_atomically(target, {"a": 1})
    with pytest.raises(RunError, match=r"file\.json"):
        write_json_atomically(target, {"a": value})
    assert json.loads(target.read_text()) == {"a": 1}


def test_what_the_system_does_not_say_is_one_sentence(tmp_path):
    assert not exists(tmp_path / "gone" / "file")
    (tmp_path / "file").touch()
    assert exists(tmp_path / "file")
    assert not exists(tmp_path / "file" / "below")
    with pytest.raises(RunError, match=r"cannot look at .*too long.*: choose another folder"):
        exists(tmp_path / ("x" * 300))


def test_temporaries_of_a_killed_process_are_cleared(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        (tmp_path / (temporary.name + "-killed")).write_text("half")
    clear_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_stop_that_came_too_late_leaves_nothing(tmp_path):
    with Run(tmp_path, "segment") as run:
        request_stop(tmp_path)
        run.complete()
    assert read_state(tmp_path).state == "done"
    assert not (tmp_path / "stop").exists()


def test_a_run_that_has_ended_is_not_asked_to_stop(tmp_path):
    from lpd.cli.crew import ask_to_stop

    with Run(tmp_path, "segment"):
        pass
    ask_to_stop(tmp_path)
    assert not (tmp_path / "stop").exists()
    with Run(tmp_path, "segment") as run:
        ask_to_stop(tmp_path)
        assert run.stop_requested()
