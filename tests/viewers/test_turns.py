"""Who waits for a heavy answer takes no thread from the others."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import CapacityLimiter, to_thread

from viewers.commands import run_command
from viewers.turns import in_turn, stop_if_abandoned


class Client:
    """A request, as far as it tells that its client has gone."""

    def __init__(self) -> None:
        self.gone = False

    async def is_disconnected(self) -> bool:
        return self.gone


def test_many_who_wait_keep_nobody_else_waiting() -> None:
    free, began = threading.Event(), []

    def work(number: int) -> None:
        began.append(number)
        free.wait(10)

    async def main() -> None:
        heavy = partial(in_turn(CapacityLimiter(2))(work), request=Client())
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


def test_who_has_gone_is_not_worked_for() -> None:
    """One is at work, one waits; both go away, and a third is served."""
    done: list[str] = []
    clients = {name: Client() for name in ("at work", "waiting", "third")}

    def work(name: str) -> str:
        done.append(name)
        end = time.monotonic() + 10
        while name == "at work" and time.monotonic() < end:
            stop_if_abandoned()
            time.sleep(0.01)
        return name

    async def main() -> dict[str, Any]:
        heavy, answers = in_turn(CapacityLimiter(1))(work), {}

        async def ask(name: str) -> None:
            answers[name] = await heavy(name, request=clients[name])

        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                for name in clients:
                    tasks.start_soon(ask, name)
                    while "at work" not in done:
                        await anyio.sleep(0.01)
                await anyio.sleep(0.05)
                clients["waiting"].gone = True
                while "waiting" not in answers:
                    await anyio.sleep(0.01)
                clients["at work"].gone = True
        return answers

    answers = anyio.run(main)
    assert done == ["at work", "third"]
    assert answers.pop("third") == "third"
    assert {answer.status_code for answer in answers.values()} == {499}


def test_nobody_s_thread_is_never_abandoned() -> None:
    stop_if_abandoned()


def test_a_command_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    """It writes its process's number and would sleep for a minute."""
    marks, client = tmp_path / "pid", Client()
    script = f"import os, time; open({str(marks)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def main() -> Any:
        async def leave() -> None:
            while not (marks.exists() and marks.read_text()):
                await anyio.sleep(0.02)
            client.gone = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            command = partial(run_command, (sys.executable, "-c", script), ())
            return await in_turn(CapacityLimiter(1))(command)(request=client)

    assert anyio.run(main).status_code == 499
    with pytest.raises(ProcessLookupError):
        os.kill(int(marks.read_text()), 0)
