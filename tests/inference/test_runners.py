"""The ways to run an encoder give the same maps: to the last digits in fp32, nearly so in half precision."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lpd.classes import ClassScheme, TissueClass
from lpd.config import InputSpec, ModelConfig
from lpd.errors import CheckpointError, ConfigError
from lpd.inference import openvino_runner, runners
from lpd.inference.backend import NetworkBackend
from lpd.inference.runners import alternatives, make_runner
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet
from lpd.model.scoring import default_calibration

CPU = torch.device("cpu")
SCHEME = ClassScheme((TissueClass("AAA", "First", (255, 0, 0)), TissueClass("BBB", "Second", (0, 255, 0))))

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(scope="module", params=["mobilenetv2_050", "mit_b0"])
def network(request: pytest.FixtureRequest) -> LPDNet:
    torch.manual_seed(0)
    return LPDNet(ModelConfig(request.param, class_count=2, prototype_dim=16)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def errors_of(name: str, network: LPDNet, images: torch.Tensor) -> list[float]:
    """Relative error of each map, after the runner has also seen another shape."""
    runner = make_runner(name, network.encoder, CPU)  # type: ignore[arg-type]
    with torch.inference_mode():
        runner(images[:1, :, :64])
        found, expected = runner(images), network.encoder(images)
    assert [m.shape for m in found] == [m.shape for m in expected]
    assert all(m.dtype == torch.float32 for m in found)
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("name", ["torch", "torch-frozen", pytest.param("openvino", marks=needs_openvino)])
def test_fp32_gives_the_same_to_the_last_digits(name, network, images):
    assert max(errors_of(name, network, images)) < 1e-4


def test_half_precision_gives_nearly_the_same(network, images):
    errors = errors_of("torch-bf16", network, images)
    assert 1e-4 < max(errors) < 0.1


_WATCHED = """
import socket

def called(*words, **_):
    print("NETWORK", words, flush=True)
    raise OSError("no network")

socket.socket.connect = socket.getaddrinfo = called
import torch
from lpd.inference.runners import make_runner
runner = make_runner("openvino", torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3)])[0], torch.device("cpu"))
"""


@needs_openvino
def test_openvino_calls_nobody():
    """By itself it would report each import to its maker."""
    done = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""


_SIGNALLED = """
import gc, signal, torch
from lpd.inference.runners import make_runner

layers = [torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3)])[0] for _ in range(2)]
runners = [make_runner("openvino", layer, torch.device("cpu")) for layer in layers]
for runner in runners:
    runner(torch.zeros(1, 3, 32, 32))
while runners:  # the first one ends first
    del runner, runners[0]
    runner = None
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""


@needs_openvino
def test_a_stop_is_heard_after_openvino_ran():
    done = subprocess.run([sys.executable, "-c", _SIGNALLED], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")


@needs_openvino
def test_what_openvino_gave_stays_when_it_is_called_again(network, images):
    runner = make_runner("openvino", network.encoder, CPU)
    first = runner(images)
    before = [m.clone() for m in first]
    runner(images + 1)
    assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True))


def test_without_openvino_torch_does_what_it_can(monkeypatch):
    monkeypatch.setattr(openvino_runner, "find_spec", lambda _name: None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert alternatives(CPU) == ("torch-bf16", "torch-frozen")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert alternatives(CPU) == ("torch-frozen",)
    with pytest.raises(ConfigError, match="OpenVINO is not installed: pip install openvino"):
        make_runner("openvino", torch.nn.Identity(), CPU)


def test_a_broken_openvino_is_as_good_as_none(monkeypatch):
    def broken() -> None:
        raise ImportError("libtbb.so.12")

    monkeypatch.setattr(openvino_runner, "find_spec", lambda _name: object())
    monkeypatch.setattr(openvino_runner, "_core", broken)
    assert openvino_runner.openvino_precisions() == ()


@pytest.mark.parametrize(
    ("precisions", "expected"),
    [(("f32", "bf16"), ("openvino-bf16", "openvino")), (("f32",), ("openvino",))],
)
def test_bf16_is_tried_where_the_processor_has_it(monkeypatch, precisions, expected):
    monkeypatch.setattr(runners, "openvino_precisions", lambda: precisions)
    monkeypatch.setattr(openvino_runner, "openvino_precisions", lambda: precisions)
    assert alternatives(CPU) == expected
    if "bf16" not in precisions:
        with pytest.raises(ConfigError, match="does not compute bf16"):
            make_runner("openvino-bf16", torch.nn.Identity(), CPU)


def test_other_devices_have_other_ways(monkeypatch):
    assert alternatives(torch.device("cuda")) == ("torch-fp16", "torch-bf16")
    assert alternatives(torch.device("mps")) == ("torch-fp16",)
    monkeypatch.setattr(openvino_runner, "openvino_precisions", lambda: ("f32",))
    with pytest.raises(ConfigError, match="runs on the CPU here, not on cuda"):
        make_runner("openvino", torch.nn.Identity(), torch.device("cuda"))
    with pytest.raises(ConfigError, match="torch-fp16 is for GPUs"):
        make_runner("torch-fp16", torch.nn.Identity(), CPU)


@pytest.fixture
def loaded(network: LPDNet) -> NetworkBackend:
    config = network.config
    spec = InputSpec(mpp=1.0, tile_px=64)
    info = CheckpointInfo(Path("a.safetensors"), SCHEME, spec, config, default_calibration(config))
    return NetworkBackend(copy.deepcopy(network), info, CPU)


def test_a_backend_runs_in_another_way_and_stays_adapted(loaded):
    windows = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    other = loaded.running("torch-frozen")
    assert (loaded.name, other.name) == ("torch", "torch-frozen")
    for found, expected in zip(other.logits(windows), loaded.logits(windows), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert other.running("torch").logits(windows)[0].equal(loaded.logits(windows)[0])
    assert other.running("torch-frozen")._runner is other._runner  # nothing is translated twice


def test_a_way_that_overflows_is_helped_out_by_the_reference(loaded):
    windows = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    other = loaded.running("torch-bf16")
    reference = loaded._runner
    other._runner = lambda images: [m * torch.inf for m in reference(images)]
    assert torch.equal(other.logits(windows)[0], loaded.logits(windows)[0])
    loaded._runners["torch"] = other._runner
    with pytest.raises(CheckpointError, match="no numbers"):
        other.logits(windows)


def test_a_way_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="backend 'onnx' is unknown here: choose one of auto, torch"):
        make_runner("onnx", torch.nn.Identity(), torch.device("cpu"))  # type: ignore[arg-type]
