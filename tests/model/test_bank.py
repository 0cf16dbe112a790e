"""Prototype banks: they come back as they were, and every wrong file is explained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lpd.config import InputSpec
from lpd.errors import CheckpointError, ConfigError
from lpd.model.bank import (
    BANK_KEY,
    BankInfo,
    EncoderRecord,
    PrototypeBank,
    load_bank,
    save_bank,
)
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import BadCheckpoint, list_checkpoints, read_info

SHA = "ab" * 32


@pytest.fixture
def bank() -> PrototypeBank:
    info = BankInfo(
        codes=("TUM", "STR"),
        per_class=2,
        encoder=EncoderRecord("resnet18", (("pad_type", "same"),), "resnet.safetensors", SHA, notice="free to use"),
        input=InputSpec(mpp=0.5, tile_px=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        data_name="Gewebe — ü",
        data_fingerprint="0123456789abcdef",
        patches=1,
        seed=7,
        tiles=(5, 3),
        silhouettes=(0.25, None),
        members=(3, 2, 2, 1),
        cosines=(0.9, 0.8, 0.7, 1.0),
        exemplars=(("a[10].png", "b[10].png"), ("c[10].png",), ("d[01].png",), ()),
        notice="research only; free to use",
    )
    return PrototypeBank(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]], dtype=np.float32), info)


@pytest.fixture
def saved(bank, tmp_path) -> Path:
    path = tmp_path / "banks" / "two.safetensors"
    save_bank(path, bank)
    return path


def test_a_bank_comes_back_as_it_was(saved, bank):
    found = load_bank(saved)
    assert np.array_equal(found.vectors, bank.vectors)
    assert found.vectors.dtype == np.float32
    assert found.info == bank.info
    assert [p.name for p in saved.parent.iterdir()] == ["two.safetensors"]


def test_a_bank_is_no_checkpoint(saved):
    with pytest.raises(CheckpointError, match=r"two\.safetensors is a safetensors file without an LPD description"):
        read_info(saved)
    (listed,) = list_checkpoints(saved.parent)
    assert isinstance(listed, BadCheckpoint)


def test_a_checkpoint_is_no_bank(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors is an lpd checkpoint, not a prototype bank"):
        load_bank(tiny_info.path)


def test_truncation_anywhere_is_noticed(saved):
    content = saved.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"two\.safetensors cannot be read as a prototype bank"):
            load_bank(saved)


def test_missing_and_foreign_files_are_explained(tmp_path):
    pointer, plain = tmp_path / "pointer.safetensors", tmp_path / "plain.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    save_file({"weight": np.zeros(1)}, plain)
    for path in (tmp_path / "gone.safetensors", tmp_path, pointer):
        with pytest.raises(CheckpointError, match="cannot be read as a prototype bank"):
            load_bank(path)
    with pytest.raises(CheckpointError, match=r"plain\.safetensors is a safetensors file without a bank's description"):
        load_bank(plain)


def document(bank: PrototypeBank, **changes: object) -> str:
    whole = {"format_version": 1, **bank.info.to_dict(), **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not ...})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "bank format 2.*update lpd"),
        ({"format_version": ...}, "bank format None"),
        ({"seed": ...}, "malformed.*seed"),
        ({"colour": "red"}, "no setting 'colour'"),
        ({"codes": []}, "class codes"),
        ({"codes": ["TUM", "TUM"]}, "differ from one another"),
        ({"per_class": 0}, "per_class 0"),
        ({"per_class": 3}, "members has 4 entries and should have 6"),
        ({"members": [3, 2, 2]}, "members has 3 entries and should have 4"),
        ({"cosines": []}, "cosines has 0"),
        ({"exemplars": [[]]}, "exemplars has 1"),
        ({"tiles": [1]}, "tiles has 1 entries and should have 2"),
        ({"silhouettes": []}, "silhouettes has 0"),
        ({"silhouettes": ["high", 0.1]}, "silhouettes"),
        ({"encoder": {"name": "resnet18"}}, "malformed"),
        ({"encoder": "resnet18"}, "encoder 'resnet18'"),
        ({"input": {"mpp": "fast"}}, "mpp 'fast'"),
    ],
)
def test_malformed_descriptions_are_explained(bank, tmp_path, changes, message):
    path = tmp_path / "odd.safetensors"
    save_file({"vectors": bank.vectors}, path, {BANK_KEY: document(bank, **changes)})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_bank(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{,}", "[" * 100_000])
def test_a_description_that_is_no_json_is_explained(bank, tmp_path, text):
    save_file({"vectors": bank.vectors}, tmp_path / "odd.safetensors", {BANK_KEY: text})
    with pytest.raises(CheckpointError, match="unreadable description"):
        load_bank(tmp_path / "odd.safetensors")
    save_file({"vectors": bank.vectors}, tmp_path / "odd.safetensors", {BANK_KEY: "[]"})
    with pytest.raises(CheckpointError, match="not a JSON object"):
        load_bank(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: {"vectors": v[:3]}, r"\(3, 3\) float32, not \(4, D\)"),
        (lambda v: {"vectors": v.ravel()}, r"\(12,\) float32"),
        (lambda v: {"vectors": v * 2}, "not all of length 1"),
        (lambda v: {"vectors": v * np.float32("nan")}, "not all of length 1"),
        (lambda v: {"vectors": v.astype(np.float64)}, "vectors alone, in F32"),
        (lambda v: {"vectors": v, "more": v}, "vectors alone"),
        (lambda v: {"prototypes": v}, "vectors alone"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(bank, tmp_path, change, message):
    save_file(change(bank.vectors), tmp_path / "odd.safetensors", {BANK_KEY: document(bank)})
    with pytest.raises(CheckpointError, match=message):
        load_bank(tmp_path / "odd.safetensors")


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(saved, bank, monkeypatch):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        save_bank(saved.with_suffix(".bank"), bank)
    record = dataclasses.replace(bank.info.encoder, options=(("act", {1, 2}),))
    with pytest.raises(CheckpointError, match="not JSON"):
        save_bank(saved, PrototypeBank(bank.vectors, dataclasses.replace(bank.info, encoder=record)))
    with pytest.raises(CheckpointError, match="cannot write"):
        save_bank(saved / "below.safetensors", bank)

    write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> None:
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        save_bank(saved, bank)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["two.safetensors"]


def test_a_bank_fits_only_its_own_classes_encoder_and_weights(bank):
    made_by, given = bank.info.encoder, bank.info.input
    bank.check_fit(["TUM", "STR"], made_by, given.mean, given.std)
    for codes in (("STR", "TUM"), ("TUM",), ("TUM", "STR", "LYM")):
        with pytest.raises(ConfigError, match="'Gewebe — ü' has the classes 'TUM', 'STR' and the training"):
            bank.check_fit(codes, made_by, given.mean, given.std)
    for sha, says in (("cd" * 32, r"'resnet\.safetensors', sha256 ababab.*others, sha256 cdcdcd"), ("", "from none")):
        other = dataclasses.replace(made_by, weights_sha256=sha)
        with pytest.raises(CheckpointError, match=says):
            bank.check_fit(("TUM", "STR"), other, given.mean, given.std)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "mit_b1"}, r"encoder\.name 'resnet18' and the training has 'mit_b1'"),
        ({"options": ()}, r"encoder\.options {'pad_type': 'same'} and the training has {}"),
        ({"last_stride": 0}, r"encoder\.last_stride 1 and the training has 0"),
        ({"mean": (0.5, 0.5, 0.5)}, r"encoder\.mean \(0\.5, 0\.4, 0\.3\) and the training has \(0\.5, 0\.5, 0\.5\)"),
        ({"std": (0.5, 0.5, 0.5)}, r"encoder\.std"),
    ],
)
def test_a_bank_of_another_view_of_the_tiles_is_refused(bank, changes, says):
    view = {"mean": bank.info.input.mean, "std": bank.info.input.std}
    view |= {name: changes.pop(name) for name in list(changes) if name in view}
    with pytest.raises(CheckpointError, match=says):
        bank.check_fit(("TUM", "STR"), dataclasses.replace(bank.info.encoder, **changes), **view)


def test_a_forged_name_cannot_play_with_the_terminal(bank):
    info = dataclasses.replace(bank.info, data_name="\x1b[2J", codes=("\x1b[3J", "B"))
    with pytest.raises(ConfigError) as caught:
        PrototypeBank(bank.vectors, info).check_fit(("A", "B"), info.encoder, info.input.mean, info.input.std)
    assert str(caught.value).isprintable()
