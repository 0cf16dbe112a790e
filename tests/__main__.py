"""``python -m tests``: install what the tests need, then run them, one process a core; arguments go to pytest."""

import os
import sys

from viewers.bootstrap import ROOT, ensure_installed

#: More processes than this would want more memory than a small machine has: each loads PyTorch.
MOST_PROCESSES = 8


def _processes() -> int:
    """How many to run: each core computes for one process, so PyTorch's own threads would only be in the way."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


if __name__ == "__main__":
    ensure_installed("requirements.txt", "tests/requirements.txt")
    import pytest

    arguments = sys.argv[1:]
    if "-m" not in arguments:
        arguments = ["-m", "not browser and not slow", *arguments]
    if "-n" not in arguments and (processes := _processes()) > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        arguments = ["-n", str(processes), "--dist", "worksteal", *arguments]
    sys.exit(pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *arguments]))
