"""``python -m tests``: install what the tests need, then run them; arguments go to pytest."""

import sys

from viewers.bootstrap import ROOT, ensure_installed

if __name__ == "__main__":
    ensure_installed("requirements.txt", "tests/requirements.txt")
    import pytest

    arguments = sys.argv[1:]
    if "-m" not in arguments:
        arguments = ["-m", "not browser and not slow", *arguments]
    sys.exit(pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *arguments]))
