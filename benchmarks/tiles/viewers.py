"""People who look at a slide: each moves a screen over it, step by step, and asks for what comes into view."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lpd.slide.deepzoom import DeepZoom

#: (level, column, row) to the path of an address.
Address = Callable[[int, int, int], str]
_SCREEN = 6, 4  # tiles: 1366 × 768 px
_CONNECTIONS = 6  # as browsers have to one server
_STEP_S = 0.25
_STEPS_A_LEVEL = 8


@dataclass(frozen=True)
class Waits:
    """Seconds from wish to last byte of each tile.

    Attributes:
        seconds: of tiles that came into view by panning.
        first: of those that fill the screen when another level is chosen.
    """

    seconds: Sequence[float]
    first: Sequence[float]

    @property
    def ms(self) -> tuple[float, float]:
        """Median and 95th percentile while panning, milliseconds; not a number if nobody panned."""
        found = sorted(self.seconds) or [float("nan")]
        return 1000 * found[len(found) // 2], 1000 * found[int(0.95 * (len(found) - 1))]


def look(port: int, address: Address, zoom: DeepZoom, count: int, seconds: float, seed: int) -> Waits:
    """Let ``count`` people look for so long.

    Raises:
        RuntimeError: a tile was refused.
    """
    return asyncio.run(_look(port, address, zoom, count, seconds, seed))


async def _look(port: int, address: Address, zoom: DeepZoom, count: int, seconds: float, seed: int) -> Waits:
    start = time.perf_counter()
    people = [_Person(port, address, zoom, random.Random(100 * seed + i)) for i in range(count)]
    await asyncio.gather(*(person.look(start + seconds) for person in people))
    return Waits([w for person in people for w in person.waits], [w for person in people for w in person.first])


class _Person:
    def __init__(self, port: int, address: Address, zoom: DeepZoom, chance: random.Random) -> None:
        self._port, self._address, self._zoom, self._chance = port, address, zoom, chance
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._pans = False
        self.first: list[float] = []
        self.waits: list[float] = []

    async def look(self, until: float) -> None:
        for _ in range(_CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))
        await asyncio.sleep(self._chance.random() * _STEP_S)
        # People turn the wheel when they like, not all at once: the first level is left after a share of the steps.
        await self._look_at_a_level(until, self._chance.randint(1, _STEPS_A_LEVEL))
        while time.perf_counter() < until:
            await self._look_at_a_level(until, _STEPS_A_LEVEL)
        while not self._free.empty():
            self._free.get_nowait()[1].close()

    async def _look_at_a_level(self, until: float, steps: int) -> None:
        """Pan over one of the levels that are larger than the screen, as one does after turning the wheel."""
        larger = [n for n in range(self._zoom.level_count) if _is_larger(self._zoom.grid_size(n))]
        level = self._chance.choice(larger)
        columns, rows = (size - seen for size, seen in zip(self._zoom.grid_size(level), _SCREEN, strict=True))
        x, y = self._chance.randint(0, columns), self._chance.randint(0, rows)
        seen: set[tuple[int, int]] = set()
        self._pans = False
        for _ in range(steps):
            began = time.perf_counter()
            if began > until:
                return
            screen = {(x + i, y + j) for i in range(_SCREEN[0]) for j in range(_SCREEN[1])}
            await asyncio.gather(*(self._ask(level, *place) for place in sorted(screen - seen)))
            seen |= screen
            self._pans = True
            x = min(columns, max(0, x + self._chance.choice((-1, 1))))
            y = min(rows, max(0, y + self._chance.choice((-1, 0, 1))))
            await asyncio.sleep(max(0.0, began + _STEP_S - time.perf_counter()))

    async def _ask(self, level: int, col: int, row: int) -> None:
        wished = time.perf_counter()
        connection = await self._free.get()
        reader, writer = connection
        path = self._address(level, col, row)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
        if not head.startswith("http/1.1 200"):
            raise RuntimeError(f"{path} was answered {head.splitlines()[0]}")
        (self.waits if self._pans else self.first).append(time.perf_counter() - wished)
        self._free.put_nowait(connection)


def _is_larger(grid: tuple[int, int]) -> bool:
    return grid[0] >= _SCREEN[0] and grid[1] >= _SCREEN[1]
