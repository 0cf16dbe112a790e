"""OpenSeadragon's cache: used when intact, refetched when not, refused when it is not what was pinned."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from lpd.errors import LpdError
from viewers import openseadragon


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A source archive of the published form, with a script of our own as the pinned one."""
    script = b"window.OpenSeadragon = {};"
    monkeypatch.setattr(openseadragon, "_SCRIPT_SHA256", hashlib.sha256(script).hexdigest())
    path = tmp_path / "openslide_python-1.tar.gz"
    members = {
        "p-1/examples/deepzoom/static/openseadragon.js": script,
        "p-1/examples/deepzoom/static/images/home.png": b"png",
        "p-1/examples/deepzoom/licenses/LICENSE.openseadragon": b"BSD",
        "p-1/examples/deepzoom/static/images/../../../evil.js": b"evil",
        "p-1/setup.py": b"no",
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(openseadragon, "_download", lambda folder: path)
    return path


def test_fetched_once_and_only_what_the_viewer_needs(archive, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "osd"
    assert openseadragon.ensure(cache) == cache
    files = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())
    assert files == ["LICENSE.openseadragon", "images/home.png", "openseadragon.js"]
    monkeypatch.setattr(openseadragon, "_download", lambda folder: pytest.fail("fetched again"))
    openseadragon.ensure(cache)


def test_damaged_cache_is_replaced(archive, tmp_path):
    cache = tmp_path / "cache" / "osd"
    openseadragon.ensure(cache)
    (cache / "openseadragon.js").write_text("damaged")
    openseadragon.ensure(cache)
    assert (cache / "openseadragon.js").read_bytes() == b"window.OpenSeadragon = {};"


def test_other_content_is_refused_and_nothing_kept(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(openseadragon, "_SCRIPT_SHA256", "0" * 64)
    with pytest.raises(LpdError, match="not the pinned version"):
        openseadragon.ensure(tmp_path / "cache" / "osd")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_network_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(openseadragon, "_ARCHIVE", "no-such-package-anywhere==1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(LpdError, match="go online once"):
        openseadragon.ensure(tmp_path / "cache" / "osd")
