"""Long work gives way to people who look at slides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lpd import niceness
from viewers.processes import start_process


@pytest.mark.skipif(os.name == "nt", reason="POSIX priorities")
def test_what_is_started_runs_at_a_lower_priority(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with start_process((sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, tmp_path / "log") as process:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, own + 5)
        session = Path(f"/proc/{process.pid}/autogroup")
        if session.exists():  # else the cores are not shared among sessions
            assert session.read_text().split()[-1] == str(min(19, own + 5))
        process.kill()


def test_a_busy_system_is_asked_again_and_one_without_sessions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told, answers = [], [BlockingIOError(), None]

    def write(path: Path, text: str, encoding: str) -> None:
        told.append((path, text))
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(Path, "write_text", write)
    niceness._tell_autogroup(7, 12)
    assert told == 2 * [(Path("/proc/7/autogroup"), "12")]
    answers[:] = [PermissionError()]
    niceness._tell_autogroup(7, 12)
    assert not answers
