"""Throttle: whoever guesses passwords waits longer and longer, in bounded memory."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FORGET_AFTER_S = 900.0
_REMEMBERED = 4096


@dataclass
class _Failures:
    count: int = 0
    last: float = 0.0


class Throttle:
    """Counts failures by key. The first ``free`` cost nothing, the next wait 1 s, 2 s, 4 s … up to ``longest_s``.

    Args:
        free: failures before one must wait.
        longest_s: the longest wait; also how long somebody can keep another from logging in.
        clock: seconds; tests bring their own.
    """

    def __init__(self, free: int, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = free
        self._longest_s = longest_s
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._guard = threading.Lock()

    def wait_s(self, key: str) -> int:
        """Whole seconds until the next try is allowed; 0 for now."""
        with self._guard:
            known = self._recent(key)
            if known.count < self._free:
                return 0
            pause = min(self._longest_s, 2.0 ** min(known.count - self._free, 30))
            return max(0, math.ceil(known.last + pause - self._clock()))

    def failed(self, key: str) -> None:
        """Count a failure. Count it before looking, and take it back after: tries at the same time all count."""
        with self._guard:
            known = self._recent(key)
            self._failures[key] = _Failures(known.count + 1, self._clock())
            self._failures.move_to_end(key)
            while len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)

    def take_back(self, key: str) -> None:
        """The try that was counted last was none."""
        with self._guard:
            if key in self._failures:
                self._failures[key].count -= 1

    def forget(self, key: str) -> None:
        """Begin anew for a key."""
        with self._guard:
            self._failures.pop(key, None)

    def _recent(self, key: str) -> _Failures:
        known = self._failures.get(key)
        return known if known and self._clock() - known.last < _FORGET_AFTER_S else _Failures()


def address_key(address: str) -> str:
    """One key for all addresses that one machine can freely choose from: a /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
