"""Resolutions that people gave to slides: one JSON file, keyed by slide fingerprint, so that nobody is asked twice."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from lpd.errors import LpdError
from lpd.runs import write_json_atomically

_LOWEST, _HIGHEST = 0.01, 100.0


class RememberedMpp:
    """µm per pixel by slide fingerprint, kept in ``path`` across restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._known: dict[str, float] = _read(path)

    def get(self, fingerprint: str) -> float | None:
        return self._known.get(fingerprint)

    def set(self, fingerprint: str, mpp: float | None) -> None:
        """Remember ``mpp``, or forget it when None.

        Raises:
            LpdError: ``mpp`` is not between 0.01 and 100 µm per pixel, or cannot be saved.
        """
        if mpp is not None and not _LOWEST <= mpp <= _HIGHEST:
            raise LpdError(
                f"{mpp:g} µm per pixel is not between 0.01 and 100: a 20× scan is usually 0.5, a 40× scan 0.25"
            )
        with self._guard:
            known = {k: v for k, v in self._known.items() if k != fingerprint}
            if mpp is not None:
                known[fingerprint] = float(mpp)
            write_json_atomically(self._path, known)
            self._known = known


def _read(path: Path) -> dict[str, float]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): float(v) for k, v in data.items() if _LOWEST <= float(v) <= _HIGHEST}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # losing remembered answers costs one question each; refusing to start would cost the morning
