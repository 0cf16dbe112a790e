"""Passes over data sets: one that goes wrong in a way nobody thought of holds up none of those that wait."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from lpd.errors import LpdError
from viewers.data_passes import DataPasses


def outcome(passes: DataPasses, key: tuple[str, str, str]) -> dict[str, Any] | None:
    """What the one who asks hears last: None after a good end."""
    end = time.monotonic() + 30
    while (found := passes.look(key, "me")) is not None and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_what_fails_unexpectedly_is_told_and_the_next_runs(caplog: pytest.LogCaptureFixture) -> None:
    passes, ended = DataPasses(), []

    def fail() -> None:
        raise OSError("the disk is gone")

    keys = [(name, "train", "model") for name in ("bad", "good")]
    for key, finish in zip(keys, (fail, lambda: ended.append("good")), strict=True):
        passes.begin(key, "me", (sys.executable,), ["-c", "pass"], lambda error: error, finish)
    with pytest.raises(LpdError, match="something unexpected went wrong"):
        outcome(passes, keys[0])
    assert outcome(passes, keys[1]) is None
    assert ended == ["good"]
    assert "the disk is gone" in caplog.text
