"""Checkpoint files: exact round trips, half precision, refusals, and nothing left behind by a failed save."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpd.config import ModelConfig
from lpd.errors import CheckpointError
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.encoders import batch_norms
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration


def output_of(network: LPDNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        return network(torch.rand(2, 3, 64, 64, generator=generator)).class_logits[3]


def test_a_saved_network_comes_back_bit_for_bit(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    found, info = load_checkpoint(tiny_info.path, "cpu")
    assert torch.equal(output_of(found), output_of(tiny_network))
    assert not found.training
    assert dataclasses.replace(info, versions={}) == tiny_info


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_others_may_read_a_checkpoint_like_any_file(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    plain = tiny_info.path.with_suffix(".txt")
    plain.write_text("a file like any other")
    assert tiny_info.path.stat().st_mode == plain.stat().st_mode


def test_half_precision_halves_the_file_and_loads_as_float32(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    full = tiny_info.path.stat().st_size
    half_path = tiny_info.path.with_name("half.safetensors")
    save_checkpoint(half_path, tiny_network, tiny_info, dtype="float16")
    found, _ = load_checkpoint(half_path)
    assert half_path.stat().st_size < 0.65 * full
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert found.prototypes.dtype == torch.float32
    difference = (output_of(found) - output_of(tiny_network)).abs().max()
    assert 0 < difference < 0.02  # logits span about 14


def test_half_precision_keeps_vectors_and_what_would_overflow(tiny_network, tiny_info):
    with torch.no_grad():
        tiny_network.prototypes[0, 0] = 1e6
        tiny_network.encoder.body.patch_embed.norm.weight.fill_(1 + 1e-5)
    save_checkpoint(tiny_info.path, tiny_network, tiny_info, dtype="float16")
    found, _ = load_checkpoint(tiny_info.path)
    assert torch.equal(found.prototypes, tiny_network.prototypes)
    assert torch.equal(found.encoder.body.patch_embed.norm.weight, tiny_network.encoder.body.patch_embed.norm.weight)


def test_batch_statistics_travel_too(tiny_info):
    config = ModelConfig("mobilenetv2_100", class_count=4, prototype_dim=8, timm_options=(("pad_type", "same"),))
    network = LPDNet(config).train()
    network(torch.rand(4, 3, 64, 64))
    info = dataclasses.replace(tiny_info, model=config, calibration=default_calibration(config))
    save_checkpoint(info.path, network.eval(), info)
    found, _ = load_checkpoint(info.path)
    assert torch.equal(output_of(found), output_of(network))
    assert any(norm.training for norm in batch_norms(found.train()))


def test_folded_batch_norms_stay_frozen_after_loading(tiny_info):
    config = ModelConfig("resnet18", class_count=4, prototype_dim=8)
    network = LPDNet(config)
    for norm in batch_norms(network):
        torch.nn.init.constant_(norm.bias, 0.1)
    info = dataclasses.replace(tiny_info, model=config, calibration=default_calibration(config))
    save_checkpoint(info.path, network, info)
    found, _ = load_checkpoint(info.path)
    assert not any(norm.training for norm in batch_norms(found.train()))


def change_tensors(path: Path, change) -> None:
    info = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])["__metadata__"]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, info)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("prototypes"), "prototypes are missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda t: t.pop("gains.1"), "lacks gains.1"),
        (lambda t: t.update(prototypes=torch.zeros(9, 16)), r"\[9, 16\] and should be .*\[12, 16\]"),
        (lambda t: t.update({"gains.1": torch.zeros(2)}), r"gains.1 is \(2,\) and should be \(\): save it again"),
        (lambda t: t["prototypes"].fill_(float("nan")), "prototypes is not finite"),
        (lambda t: t["gains.3"].fill_(float("inf")), "gains.3 is not finite"),
        (lambda t: t.update({"gains.3": torch.tensor(1e300, dtype=torch.float64)}), "gains.3 is not finite"),
        (lambda t: t.update({"gains.3": torch.tensor(1, dtype=torch.int32)}), "int32 and should be torch.float32"),
        (lambda t: t.update({"gains.3": torch.tensor(True)}), "torch.bool and should be"),
        (lambda t: t.update(prototypes=t["prototypes"].to(torch.complex64)), "unknown type 'C64'"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tiny_network, tiny_info, change, message):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    change_tensors(tiny_info.path, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tiny_info.path)


def test_an_unknown_encoder_is_a_checkpoint_error(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    tiny_info.path.write_bytes(tiny_info.path.read_bytes().replace(b"mit_b0", b"mit_b7"))
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors cannot be built: encoder 'mit_b7' is unknown"):
        load_checkpoint(tiny_info.path)


def test_a_truncated_file_is_refused(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    tiny_info.path.write_bytes(tiny_info.path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(tiny_info.path)


def test_a_damaged_tensor_table_is_refused(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    content = tiny_info.path.read_bytes()
    tiny_info.path.write_bytes(content.replace(b'"F32"', b'"X32"', 1))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tiny_info.path)


def test_nothing_is_written_that_could_not_be_used(tiny_network, tiny_info, tiny_config):
    other = dataclasses.replace(tiny_info, model=dataclasses.replace(tiny_config, prototype_dim=8))
    with pytest.raises(CheckpointError, match="its description"):
        save_checkpoint(tiny_info.path, tiny_network, other)
    for scores in ({"miou": float("nan")}, {"miou": object()}):
        with pytest.raises(CheckpointError, match="not JSON"):
            save_checkpoint(tiny_info.path, tiny_network, dataclasses.replace(tiny_info, scores=scores))
    with torch.no_grad():
        tiny_network.prototypes[2, 3] = float("nan")
    with pytest.raises(CheckpointError, match="prototypes is not finite"):
        save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    assert list(tiny_info.path.parent.iterdir()) == []


def test_a_failed_save_keeps_the_old_file(tiny_network, tiny_info, monkeypatch):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    before = tiny_info.path.read_bytes()

    write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> None:
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    assert tiny_info.path.read_bytes() == before
    assert [p.name for p in tiny_info.path.parent.iterdir()] == ["tiny.safetensors"]
