"""Who waits for a heavy answer takes no thread from the others."""

from __future__ import annotations

import threading

import anyio
from anyio import CapacityLimiter, to_thread

from viewers.turns import in_turn


def test_many_who_wait_keep_nobody_else_waiting() -> None:
    free, began = threading.Event(), []

    def work(number: int) -> None:
        began.append(number)
        free.wait(10)

    async def main() -> None:
        heavy = in_turn(CapacityLimiter(2))(work)
        async with anyio.create_task_group() as tasks:
            for number in range(50):  # more than there are threads for everybody
                tasks.start_soon(heavy, number)
            with anyio.fail_after(5):
                while len(began) < 2:
                    await anyio.sleep(0.01)
                assert await to_thread.run_sync(lambda: "a tile") == "a tile"
            assert len(began) == 2
            free.set()

    anyio.run(main)
    assert sorted(began) == list(range(50))
