"""Turns: heavy answers have a few threads of their own, so that who waits for one takes none from tiles and lists."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

P = ParamSpec("P")
T = TypeVar("T")


def in_turn(places: CapacityLimiter) -> Callable[[Callable[P, T]], Callable[P, Coroutine[Any, Any, T]]]:
    """Let a route's function run in a thread when one of some places is free; it waits in the event loop, in no thread.

    Args:
        places: how many run at once, of all functions that share them.
    """

    def decorate(work: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(work)
        async def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
            return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=places)

        return waiting

    return decorate
