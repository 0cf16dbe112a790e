"""BodyLimit: no request may bring more than the app has a use for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEBIBYTE = 2**20


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit, told beforehand or found while it arrives.

    Args:
        app: what is behind.
        limit: bytes.
        other: limits of these paths (after the root path) and of what is below them.
    """

    def __init__(self, app: ASGIApp, limit: int, other: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"].removeprefix(scope.get("root_path", "")))
        refusal = JSONResponse(
            {"error": f"the request brings more than {_size(limit)}: send less, or put slides into the slides folder"},
            status_code=413,
            headers={"Connection": "close"},
        )
        told = Headers(scope=scope).get("content-length", "0")
        if not told.isdecimal() or int(told) > limit:
            await refusal(scope, receive, send)
            return
        arrived, over, begun = 0, False, False

        async def counted() -> Message:
            nonlocal arrived, over
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > limit:
                over = True
                raise _TooLargeError
            return message

        async def replaced(message: Message) -> None:
            nonlocal begun
            if not over or begun:  # else whatever is behind answers to our error, and ours is the answer to give
                begun = True
                await send(message)

        with suppress(_TooLargeError):
            await self._app(scope, counted, replaced)
        if over and not begun:
            await refusal(scope, receive, send)

    def _limit_of(self, path: str) -> int:
        found = (limit for start, limit in self._other.items() if path == start or path.startswith(f"{start}/"))
        return next(found, self._limit)


class _TooLargeError(Exception):
    """The body has passed the limit."""


def _size(limit: int) -> str:
    if limit >= 10**9:
        return f"{limit / 10**9:g} GB"
    return f"{limit // MEBIBYTE} MB" if limit >= MEBIBYTE else f"{limit // 1024} kB"
