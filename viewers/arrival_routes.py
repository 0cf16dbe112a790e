"""Routes by which slides come into the folder: uploads, where they are allowed, and the public sample slide."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from viewers.arriving import Arrival, arriving, clear_stale
from viewers.errors import NotAllowedError, NotReadyError
from viewers.gate import visitor
from viewers.sample import fetch_sample
from viewers.services import Services
from viewers.slide_folder import slide_id

UPLOADS = "/api/uploads"
_AT_ONCE = 4
_LONGEST_SILENCE_S = 60.0
#: Written to the disk in parts of at least this size, so that few turns in a thread are needed.
_PART_BYTES = 4 * 2**20


def arrival_router(services: Services) -> APIRouter:
    """``/api/uploads``, ``/api/sample``, and ``/api/setup``, which says what of them this visitor may use."""
    router = APIRouter()
    options, folder = services.options, services.catalogue.folder
    places = anyio.Semaphore(_AT_ONCE)
    clear_stale(folder)

    @router.get("/api/setup")
    def setup(request: Request) -> dict[str, Any]:
        sample = options.sample if visitor(request).may_cancel_all else None
        return {
            "folder": str(folder),
            "max_upload": options.max_upload,
            "labels": not options.hide_labels,
            "sample": sample and {"name": sample.name, "size": sample.size, "host": sample.host},
        }

    @router.post(UPLOADS, status_code=201)
    async def upload(request: Request, response: Response, name: str) -> dict[str, str]:
        if not options.max_upload:
            raise NotAllowedError("slides cannot be uploaded here: copy them into the slides folder")
        told = request.headers.get("content-length", "")
        try:
            with arriving(folder, name, int(told) if told.isdecimal() else 0) as arrival:
                async with places:
                    await _receive(request, arrival)
                    await anyio.to_thread.run_sync(arrival.settle)
        except ClientDisconnect:
            raise NotReadyError(f"{arrival.target.name} did not arrive as a whole: nothing was kept") from None
        return _arrived(request, response, arrival)

    @router.post("/api/sample", status_code=201)
    def sample(request: Request, response: Response) -> dict[str, str]:
        if not visitor(request).may_cancel_all:
            raise NotAllowedError("the sample slide comes from the internet: ask an --admin to fetch it")
        with arriving(folder, options.sample.name, options.sample.size) as arrival:
            fetch_sample(options.sample, arrival, folder)
            arrival.settle()
        return _arrived(request, response, arrival)

    return router


async def _receive(request: Request, arrival: Arrival) -> None:
    waiting, size = [], 0
    async for part in _spoken(request, arrival.target.name):
        waiting.append(part)
        size += len(part)
        if size >= _PART_BYTES:
            await anyio.to_thread.run_sync(arrival.write, b"".join(waiting))
            waiting, size = [], 0
    await anyio.to_thread.run_sync(arrival.write, b"".join(waiting))


async def _spoken(request: Request, name: str) -> AsyncIterator[bytes]:
    """The parts of a body, none of which may keep others waiting for their turn."""
    parts = request.stream()
    while True:
        try:
            with anyio.fail_after(_LONGEST_SILENCE_S):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise NotReadyError(
                f"nothing of {name} has arrived for {_LONGEST_SILENCE_S:.0f} s: nothing was kept, send it again"
            ) from None
        yield part


def _arrived(request: Request, response: Response, arrival: Arrival) -> dict[str, str]:
    number = slide_id(os.fsencode(arrival.target.name))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/slides/{number}"
    return {"id": number, "name": arrival.target.name}
