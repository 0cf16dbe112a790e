"""OpenSeadragon 6.1.1 from a hash-pinned source archive on the package index: never in git, never from a CDN."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from lpd.errors import LpdError

#: The source archive of openslide-python carries OpenSeadragon as part of its Deep Zoom example.
_ARCHIVE = "openslide-python==1.4.7"
_ARCHIVE_SHA256 = "730fed798de683b00c8ef4d956f3d429cc02f2c449eb0d58944e1769ba7983cc"
_SCRIPT_SHA256 = "86b60a9088c8c162bef278bbf22e070958ded16acf4627a73e206c95ea42831e"
_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "openseadragon-6.1.1"


def ensure(cache: Path = _CACHE) -> Path:
    """Folder with ``openseadragon.js``, its ``images/`` and its licence; fetched on first use.

    Raises:
        LpdError: it is not there and cannot be fetched, or its content is not what was pinned.
    """
    if not _is_intact(cache):
        _fetch(cache)
    return cache


def _is_intact(cache: Path) -> bool:
    script = cache / "openseadragon.js"
    return script.is_file() and hashlib.sha256(script.read_bytes()).hexdigest() == _SCRIPT_SHA256


def _fetch(cache: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        folder = Path(name)
        _extract(_download(folder), folder / "unpacked")
        if not _is_intact(folder / "unpacked"):
            raise LpdError("the downloaded OpenSeadragon is not the pinned version 6.1.1: nothing was installed")
        shutil.rmtree(cache, ignore_errors=True)
        (folder / "unpacked").replace(cache)


def _download(folder: Path) -> Path:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{_ARCHIVE} --hash=sha256:{_ARCHIVE_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "openslide-python", "--require-hashes", "-r", str(requirement), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_NO_INPUT": "1"}, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise LpdError(
            f"the slide viewer OpenSeadragon could not be fetched ({reason}): go online once and start again"
        )
    return archives[0]


def _extract(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            relative = _wanted(member.name)
            source = tar.extractfile(member) if relative else None
            if relative and source:
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                (target / relative).write_bytes(source.read())


def _wanted(name: str) -> str | None:
    """Path in the cache of an archive member, or None if the viewer does not need it."""
    inside = name.partition("/examples/deepzoom/")[2]
    if ".." in inside:
        return None
    if inside == "static/openseadragon.js" or inside.startswith("static/images/"):
        return inside.removeprefix("static/")
    return "LICENSE.openseadragon" if inside == "licenses/LICENSE.openseadragon" else None
