"""First start: make a private environment, install what the requirement files list, fetch OpenSeadragon.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
MINIMUM_PYTHON = (3, 10)
PRIVATE = ROOT / ".venv"


def ensure_installed(*requirement_files: str) -> None:
    """Return inside an environment that has the packages of ``requirement_files`` (relative to the checkout).

    Inside a virtual environment, packages are installed into it. Outside one, an interpreter that already has all
    packages is used as it is; otherwise ``.venv`` beside ``app.py`` is made and the same command starts again in it.
    Once everything is there, no network is needed. Ends the program with one sentence if that cannot be done.
    """
    if sys.version_info < MINIMUM_PYTHON:
        sys.exit(f"Python {sys.version.split()[0]} is too old: install Python 3.10 or newer and run the command again.")
    files = [ROOT / name for name in requirement_files]
    if sys.prefix == sys.base_prefix:
        if not missing_packages(files):
            return
        _restart_in(_private_environment(PRIVATE))
    _keep_translations()
    _install_once(files)


def missing_packages(files: Sequence[Path]) -> list[str]:
    """Names in ``files`` of which no version is installed in this interpreter."""
    return [name for name in _required_names(files) if not _is_installed(name)]


def _required_names(files: Sequence[Path]) -> list[str]:
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [line.split(">")[0].split("=")[0].split("<")[0].strip() for line in lines if line]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _private_environment(folder: Path) -> Path:
    """The Python of the environment in ``folder``, which is made if need be."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"First start: making a private Python environment in {folder.name}/ …", flush=True)
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(
                f"Cannot make a Python environment in {folder} ({error}): on Debian or Ubuntu install python3-venv, "
                "elsewhere check that the folder can be written, then run the command again."
            )
    return python


def _restart_in(python: Path) -> NoReturn:
    command = [str(python), *sys.orig_argv[1:]]
    if os.name == "nt":  # execv on Windows returns to the shell at once and loses Ctrl-C
        sys.exit(subprocess.call(command))
    os.execv(str(python), command)


def _keep_translations() -> None:
    """Have modules that are imported translated once, not in every process, also where Python shall not write that.

    Container images often forbid it (``PYTHONDONTWRITEBYTECODE``), so as not to fill folders of sources. In our own
    environment there is room for it apart from them.
    """
    if sys.dont_write_bytecode and Path(sys.prefix) == PRIVATE:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(PRIVATE / "translated")
        sys.dont_write_bytecode = False


def _install_once(files: Sequence[Path]) -> None:
    """Install into this environment unless the same files were installed here before."""
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = Path(sys.prefix) / f".lpd-installed-{wanted[:16]}"
    if stamp.exists() and not missing_packages(files):
        return
    names = missing_packages(files)
    if names:
        print(f"Installing {len(names)} packages (PyTorch is large: several minutes on a slow line) …", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not sys.dont_write_bytecode:
        # Python translates a module when it is first imported: most of those of these packages never are.
        command.append("--no-compile")
    if subprocess.call([*command, *(part for file in files for part in ("-r", str(file)))]) != 0:
        sys.exit(
            "Installing failed (see above): check the network and the free disk space, then run the command again."
        )
    stamp.touch()
