"""The use of the device: shares of time by hand, and memory that is really there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lpd.training import usage


def test_what_is_waited_for_is_no_work(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 10.0, 10.0, 10.0, 12.0])  # made; waited from 1 to 4; asked at 10; waited nought; asked
    monkeypatch.setattr(usage.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(usage, "peak_memory", lambda _device: None)
    meter = usage.Usage(torch.device("cpu"))
    with meter.waiting():
        pass
    assert meter.take() == {"busy": 0.7, "memory_mb": None}
    with meter.waiting():
        pass
    assert meter.take()["busy"] == 1


def test_memory_of_a_cpu_is_that_of_the_process():
    pytest.importorskip("resource")
    held = np.ones(2**27, np.uint8)
    peak = usage.peak_memory(torch.device("cpu"))
    assert peak is not None
    assert held.nbytes < peak < 2**36  # bytes, whatever unit the system tells it in
