"""Turns: heavy answers have a few threads of their own, so that who waits for one takes none from tiles and lists.

Who goes away, or asks for something else instead, is not worked for: what waits is dropped, what runs is told.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, sleep, to_thread
from fastapi import Request, Response

from lpd.errors import LpdError

P = ParamSpec("P")
T = TypeVar("T")
#: How often is looked whether somebody is still there.
_LOOK_S = 0.2
#: Of the web's usual codes for "the client has gone"; nobody reads it.
_NOBODY_THERE = 499
_GONE: ContextVar[threading.Event | None] = ContextVar("gone", default=None)


class AbandonedError(LpdError):
    """Whoever asked has gone."""


def stop_if_abandoned() -> None:
    """To be called now and then where an answer takes long.

    Raises:
        AbandonedError: nobody waits for the answer that this thread works on.
    """
    gone = _GONE.get()
    if gone is not None and gone.is_set():
        raise AbandonedError("whoever asked for this has gone")


def in_turn(places: CapacityLimiter) -> Callable[[Callable[P, T]], Callable[..., Coroutine[Any, Any, T | Response]]]:
    """Let a route's function run in a thread when one of some places is free; it waits in the event loop, in no thread.

    The route gets the ``request``, which tells when the client has gone; the function does if it wants it.

    Args:
        places: how many run at once, of all functions that share them.
    """

    def decorate(work: Callable[P, T]) -> Callable[..., Coroutine[Any, Any, T | Response]]:
        own = inspect.signature(work)
        wants_request = "request" in own.parameters

        @wraps(work)
        async def waiting(*args: Any, request: Request, **kwargs: Any) -> T | Response:
            gone = threading.Event()
            _GONE.set(gone)
            if wants_request:
                kwargs["request"] = request
            answer: T | Response = Response(status_code=_NOBODY_THERE)
            problem: Exception | None = None
            async with create_task_group() as tasks:
                tasks.start_soon(_watch, request, gone, tasks.cancel_scope)
                try:
                    answer = await to_thread.run_sync(partial(work, *args, **kwargs), limiter=places)
                except Exception as error:  # raised below, where it is by itself and in no group
                    problem = error
                tasks.cancel_scope.cancel()
            if problem is not None and not isinstance(problem, AbandonedError):
                raise problem
            return answer

        asked = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        added = [] if wants_request else [asked]
        waiting.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
        return waiting

    return decorate


async def _watch(request: Request, gone: threading.Event, waiting: CancelScope) -> None:
    while not await request.is_disconnected():
        await sleep(_LOOK_S)
    gone.set()
    waiting.cancel()  # a thread that runs is waited for: its place is not free before it has ended
