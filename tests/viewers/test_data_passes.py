"""Passes over data sets: one that goes wrong holds up none of those that wait, and one that is left is found again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lpd.errors import LpdError
from lpd.runs import is_alive
from viewers.data_passes import DataPasses, Work

_KEY = ("data", "train", "model")
_AT_WORK = """
import sys, time
from pathlib import Path
from lpd.runs import Run
with Run(Path(sys.argv[-1]), "gallery") as run:
    time.sleep(0.6)  # it writes twice a second
    run.advance(3, 8)
    {then}
"""


def ended(passes: DataPasses, key: tuple[str, str, str], who: str = "me") -> dict[str, Any] | None:
    """What the one who asks hears last: None after a good end."""
    return until(lambda: passes.look(key, who), lambda found: found is None)


def until(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 30
    while not good(found := look()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def work(folder: Path, code: str, finish: Callable[[], None] = lambda: None) -> Work:
    return Work((sys.executable, "-c", code), folder, lambda error: error, finish)


def fail(text: str) -> Callable[[], None]:
    def finish() -> None:
        raise OSError(text)

    return finish


def left(folder: Path, then: str) -> subprocess.Popen[bytes]:
    """The process of a pass that an app which is gone had begun."""
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        (sys.executable, "-c", _AT_WORK.format(then=then), str(folder)),
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert until(lambda: is_alive(folder), bool)
    return process


def test_what_fails_unexpectedly_is_told_and_the_next_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    passes, finished = DataPasses(), []
    good = (*_KEY[:2], "good")
    passes.begin(_KEY, "me", work(tmp_path / "bad", "pass", fail("the disk is gone")))
    passes.begin(good, "me", work(tmp_path / "good", "pass", lambda: finished.append("good")))
    with pytest.raises(LpdError, match="something unexpected went wrong"):
        ended(passes, _KEY)
    assert ended(passes, good) is None
    assert finished == ["good"]
    assert "the disk is gone" in caplog.text
    assert not list(tmp_path.iterdir())


def test_each_who_waits_is_told_that_it_failed_once(tmp_path: Path) -> None:
    passes = DataPasses()
    for who in ("me", "you"):
        passes.begin(_KEY, who, work(tmp_path / "run", "raise SystemExit('lpd prototypes: no')"))
    for who in ("me", "you"):
        with pytest.raises(LpdError, match="no"):
            ended(passes, _KEY, who)
        assert passes.look(_KEY, who) is None
    assert not passes._passes  # forgotten


def test_who_has_not_heard_of_a_failure_waits_for_the_pass_begun_after_it(tmp_path: Path) -> None:
    passes = DataPasses()
    for who in ("me", "you"):
        passes.begin(_KEY, who, work(tmp_path / "run", "raise SystemExit('lpd prototypes: no')"))
    with pytest.raises(LpdError, match="no"):
        ended(passes, _KEY)
    passes.begin(_KEY, "me", work(tmp_path / "run", "pass"))
    assert ended(passes, _KEY, "you") is None


def test_a_pass_that_a_killed_app_had_begun_is_waited_for(tmp_path: Path) -> None:
    folder, passes, finished = tmp_path / "runs" / "one", DataPasses(), []
    process = left(folder, "time.sleep(2)")
    passes.begin(
        _KEY, "me", work(folder, "raise SystemExit('lpd prototypes: begun twice')", lambda: finished.append(1))
    )
    far = until(lambda: passes.look(_KEY, "me"), lambda found: found["done"])
    assert far == {"done": 3, "total": 8, "waiting": False}
    assert ended(passes, _KEY) is None
    assert finished == [1]
    assert process.wait(10) == 0
    assert not folder.exists()


def test_a_pass_that_a_killed_app_had_begun_is_ended_when_nobody_wants_it(tmp_path: Path) -> None:
    folder, passes = tmp_path / "runs" / "one", DataPasses()
    process = left(folder, "time.sleep(600)")
    passes.begin(_KEY, "me", work(folder, "pass"))
    assert until(lambda: passes.look(_KEY, "me"), lambda found: found["done"])["done"] == 3
    passes.leave(_KEY, "me")
    assert process.wait(30) != 0
    assert until(lambda: not folder.exists(), bool)


def test_a_process_that_has_not_said_who_it_is_ends_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, passes, signalled = tmp_path / "runs" / "one", DataPasses(), []
    folder.mkdir(parents=True)
    monkeypatch.setattr("viewers.data_passes.signal_group", lambda pid, force: signalled.append(pid))
    lock = FileLock(folder / "run.lock")  # of a run that begins: its state is still to be written
    lock.acquire()
    try:
        passes.begin(_KEY, "me", work(folder, "pass"))
        until(lambda: passes.look(_KEY, "me"), lambda found: not found["waiting"])
        passes.leave(_KEY, "me")
        time.sleep(0.6)
    finally:
        lock.release()
    assert until(lambda: not folder.exists(), bool)
    assert not signalled
