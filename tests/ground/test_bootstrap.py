"""First start: what counts as missing, and where things are installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from viewers import bootstrap


def test_names_are_read_from_bounded_requirements(tmp_path):
    file = tmp_path / "r.txt"
    file.write_text("# comment\npytest>=8,<10  # runner\nno-such-package-anywhere==1\n\nnumpy<3\n")
    assert bootstrap.missing_packages([file]) == ["no-such-package-anywhere"]


def test_projects_own_requirements_are_installed_here():
    files = [bootstrap.ROOT / "requirements.txt", bootstrap.ROOT / "tests" / "requirements.txt"]
    assert bootstrap.missing_packages(files) == []


def test_old_python_gets_one_sentence(monkeypatch):
    monkeypatch.setattr(bootstrap, "MINIMUM_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match="too old: install Python"):
        bootstrap.ensure_installed("requirements.txt")


def test_outside_an_environment_the_command_restarts_in_a_private_one(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(bootstrap, "missing_packages", lambda files: ["torch"])
    monkeypatch.setattr(bootstrap, "_private_environment", lambda folder: tmp_path / folder.name)
    monkeypatch.setattr(bootstrap, "_restart_in", lambda python: started.append(python) or sys.exit(0))
    with pytest.raises(SystemExit):
        bootstrap.ensure_installed("requirements.txt")
    assert started == [tmp_path / ".venv"]


def test_failed_installation_leaves_no_stamp(monkeypatch, tmp_path):
    requirement = tmp_path / "r.txt"
    requirement.write_text("no-such-package-anywhere\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(subprocess, "call", lambda command: 1)
    with pytest.raises(SystemExit, match="Installing failed"):
        bootstrap.ensure_installed(str(requirement))
    assert not list(tmp_path.glob(".lpd-installed-*"))
    monkeypatch.setattr(subprocess, "call", lambda command: 0)
    bootstrap.ensure_installed(str(requirement))
    assert len(list(tmp_path.glob(".lpd-installed-*"))) == 1


def test_modules_are_translated_once_where_python_shall_not_write_that(tmp_path):
    """Only in the environment that is ours; what a process of ours starts hears of it, too."""
    (tmp_path / "some_module.py").write_text("")
    code = (
        "import sys, subprocess; from pathlib import Path; from viewers import bootstrap\n"
        "bootstrap.PRIVATE = Path(sys.argv[1]) if sys.argv[1] else Path('elsewhere'); sys.prefix = sys.argv[2]\n"
        "bootstrap._keep_translations()\n"
        "subprocess.run([sys.executable, '-c', 'import some_module'], check=True)"
    )
    paths = os.pathsep.join((str(tmp_path), str(bootstrap.ROOT)))
    forbidden = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": paths}
    forbidden.pop("PYTHONPYCACHEPREFIX", None)
    for private in ("", str(tmp_path)):
        assert not list(tmp_path.rglob("some_module.*.pyc"))
        subprocess.run([sys.executable, "-c", code, private, str(tmp_path)], check=True, env=forbidden)
    (found,) = tmp_path.rglob("some_module.*.pyc")
    assert found.is_relative_to(tmp_path / "translated")


def test_bootstrap_needs_nothing_but_the_standard_library():
    code = "import sys; import viewers.bootstrap; print([m for m in sys.modules if m in ('numpy','torch','gradio')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=bootstrap.ROOT)
    assert done.stdout.strip() == "[]"
