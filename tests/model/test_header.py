"""Checkpoint headers: read without torch, and every kind of damaged or foreign file explained in one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lpd.classes import ClassScheme
from lpd.errors import CheckpointError, ConfigError
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import BadCheckpoint, CheckpointInfo, file_digest, list_checkpoints, read_info

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def saved(tiny_network, tiny_info) -> Path:
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    return tiny_info.path


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_everything_that_was_said_is_read_back(saved, tiny_info):
    found = read_info(saved)
    assert dataclasses.replace(found, versions={}) == tiny_info
    assert found.name == "tiny"
    assert set(found.versions) == {"lpd", "torch", "timm"}


def test_a_notice_cannot_play_with_the_terminal(tiny_network, tiny_info):
    forged = dataclasses.replace(tiny_info, notice="safe\n\x1b[2Jfor\x07 all")
    save_checkpoint(forged.path, tiny_network, forged)
    assert read_info(forged.path).notice == "safe [2Jfor all"


def test_listing_needs_no_torch(saved):
    program = (
        "import sys, pathlib, lpd.model.header as h\n"
        f"found = h.list_checkpoints(pathlib.Path({str(saved.parent)!r}))\n"
        "assert [c.notice for c in found] == ['für Tests — not for diagnosis'], found\n"
        "heavy = {'torch', 'timm', 'safetensors', 'torchvision'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-X", "utf8", "-W", "error", "-c", program], check=True, cwd=ROOT, timeout=60)


def test_listing_is_sorted_and_explains_bad_files(saved):
    folder = saved.parent
    (folder / "Alpha.safetensors").write_bytes(saved.read_bytes())
    (folder / "broken.safetensors").write_bytes(saved.read_bytes()[:-1])
    (folder / ".half-written.safetensors").write_bytes(b"")
    (folder / "notes.txt").write_text("no model")
    (folder / "folder.safetensors").mkdir()
    found = list_checkpoints(folder)
    assert [c.name for c in found] == ["Alpha", "broken", "tiny"]
    assert [type(c) for c in found] == [CheckpointInfo, BadCheckpoint, CheckpointInfo]
    assert isinstance(found[1], BadCheckpoint)
    assert "truncated" in found[1].reason
    assert str(folder / "broken.safetensors") in found[1].reason


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_a_name_that_is_no_text_is_explained(saved):
    saved.rename(os.fsdecode(os.fsencode(saved.parent) + b"/m\xe4.safetensors"))
    (found,) = list_checkpoints(saved.parent)
    assert isinstance(found, BadCheckpoint)
    assert "rename" in found.reason


def test_an_absent_or_empty_folder_has_no_checkpoints(tmp_path):
    assert list_checkpoints(tmp_path) == list_checkpoints(tmp_path / "nowhere") == []


def test_truncation_anywhere_is_noticed(saved):
    content = saved.read_bytes()
    header = struct.unpack("<Q", content[:8])[0]
    places = [
        0,
        1,
        7,
        8,
        9,
        8 + header // 2,
        8 + header - 1,
        8 + header,
        8 + header + 1,
        len(content) // 2,
        len(content) - 1,
    ]
    for length in places:
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"tiny\.safetensors .*(truncated|too few)"):
            read_info(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(100), "not a safetensors file|truncated"),
        (bytes([255] * 64), "not a safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "unreadable header"),
        (struct.pack("<Q", 3) + b"{,}", "unreadable header"),
        (struct.pack("<Q", 20_000) + b"[" * 20_000, "unreadable header"),
        (safetensors_bytes([1, 2]), "not a JSON object"),
        (safetensors_bytes({}), "without an LPD description"),
        (safetensors_bytes({"__metadata__": {"format": "pt"}}), "without an LPD description"),
        (safetensors_bytes({"__metadata__": {"lpd": "nonsense"}}), "unreadable header"),
        (safetensors_bytes({"__metadata__": {"lpd": "[]"}}), "not a JSON object"),
        (safetensors_bytes({"__metadata__": {"lpd": "{}"}}), "format None"),
        (safetensors_bytes({"weight": {"shape": [1]}}), "malformed tensor table"),
        (safetensors_bytes({"weight": 3}), "malformed tensor table"),
        (safetensors_bytes({"weight": {"data_offsets": [0, "x"]}}), "malformed tensor table"),
        (safetensors_bytes({"weight": {"data_offsets": [0, float("inf")]}}), "unreadable header"),
        (safetensors_bytes({"__metadata__": {"lpd": '{"scores": {"miou": NaN}}'}}), "unreadable header .*not JSON"),
        (safetensors_bytes({"__metadata__": {"lpd": '{"scores": {"miou": 1e999}}'}}), "unreadable header .*not JSON"),
        (safetensors_bytes({"__metadata__": {"lpd": '{"notice": "\\ud800"}'}}), "unreadable header"),
        (safetensors_bytes({"weight": {"data_offsets": [0, 8]}}, bytes(9)), "truncated or damaged"),
    ],
)
def test_foreign_files_are_explained(tmp_path, content, message):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_info(path)
    assert str(path) in str(caught.value)
    assert isinstance(list_checkpoints(tmp_path)[0], BadCheckpoint)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_info(path)


def rewrite(path: Path, info: CheckpointInfo, **changes: object) -> None:
    document = {**info.to_document(), **changes}
    save_file({"x": torch.zeros(1)}, path, {"lpd": json.dumps({k: v for k, v in document.items() if v is not ...})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format 2.*update lpd"),
        ({"classes": ...}, "has no 'classes'"),
        ({"classes": {"classes": []}}, "1 to 254 classes"),
        ({"classes": 3}, "malformed"),
        ({"classes": {"classes": [{"code": "A", "name": "a", "color": [float("inf"), 0, 0]}]}}, "malformed"),
        ({"input": {"mpp": "fast"}}, "mpp 'fast'"),
        ({"input": {"mpp": True}}, "mpp True"),
        ({"input": 3}, "malformed"),
        ({"model": {"encoder": "mit_b0", "class_count": 4, "prototypes_per_class": 3.0}}, "prototypes_per_class 3.0"),
        ({"model": {"encoder": "mit_b0", "class_count": 4, "prototype_dim": 2**70}}, "prototype_dim"),
        ({"model": {"encoder": ["a"], "class_count": 4}}, "encoder"),
        ({"input": {"mpp": 0.5, "colour": "BGR"}}, "no setting 'colour'"),
        ({"model": {"encoder": "mit_b0", "class_count": 3}}, "must agree"),
        ({"prototype_source": "magic"}, "magic"),
        ({"scores": 3}, "malformed"),
    ],
)
def test_malformed_descriptions_are_explained(tiny_info, changes, message):
    rewrite(tiny_info.path, tiny_info, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_info(tiny_info.path)


@pytest.mark.parametrize(
    ("prototypes", "message"),
    [
        (None, "prototypes are missing and should be"),
        (torch.zeros(9, 16), r"prototypes are F32 \[9, 16\] and should be .*\[12, 16\]: save or download it again"),
        (torch.zeros(12, 8), r"\[12, 8\]"),
        (torch.zeros(12, 16, dtype=torch.int32), "prototypes are I32"),
    ],
)
def test_the_tensor_table_must_be_as_described(tiny_info, prototypes, message):
    tensors = {"x": torch.zeros(1)} if prototypes is None else {"prototypes": prototypes}
    save_file(tensors, tiny_info.path, {"lpd": json.dumps(tiny_info.to_document())})
    with pytest.raises(CheckpointError, match=message):
        read_info(tiny_info.path)
    assert isinstance(list_checkpoints(tiny_info.path.parent)[0], BadCheckpoint)


def test_an_unknown_tensor_type_is_noticed(saved):
    saved.write_bytes(saved.read_bytes().replace(b'"F32"', b'"X32"', 1))
    with pytest.raises(CheckpointError, match="unknown type 'X32'"):
        read_info(saved)


def test_a_description_must_agree_with_itself(tiny_info):
    with pytest.raises(ConfigError, match="must agree"):
        dataclasses.replace(tiny_info, classes=ClassScheme(tiny_info.classes.classes[:3]))
    weights = dataclasses.replace(tiny_info.calibration, fusion_weights=(0.5, 0.5))
    with pytest.raises(ConfigError, match="fusion weights"):
        dataclasses.replace(tiny_info, calibration=weights)


def test_digest_is_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc" * 1_000_000)
    assert file_digest(path) == "sha256:" + hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    with pytest.raises(CheckpointError, match=r"none\.bin cannot be read"):
        file_digest(tmp_path / "none.bin")
