"""Devices: where a network runs, and with how many CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lpd.errors import ConfigError
from lpd.inference.settings import DeviceName


def choose_device(name: DeviceName) -> torch.device:
    """The device of that name; ``auto`` is CUDA, else Apple's MPS, else the CPU.

    Its ``type`` names the line that runs on it wait in, see :class:`lpd.runs.DeviceLine`.

    Raises:
        ConfigError: this machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        raise ConfigError(f"device {name} is not available on this machine: choose --device auto or cpu")
    return torch.device(name)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` CPU threads within the block; None leaves its own choice."""
    if count is None:  # nor put back what another thread, which computes elsewhere, has set meanwhile
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has instructions of its own for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    ask = getattr(torch.cpu, "get_capabilities", None)  # which older versions of torch lack
    found = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
