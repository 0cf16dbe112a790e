"""Long work gives way to people who look at slides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from viewers.processes import start_process


@pytest.mark.skipif(os.name == "nt", reason="POSIX priorities")
def test_what_is_started_runs_at_a_lower_priority(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with start_process((sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, tmp_path / "log") as process:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, own + 10)
        process.kill()
