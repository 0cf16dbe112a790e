"""Serving: a port that is free, a browser that opens when the app answers, one sentence when that cannot be."""

from __future__ import annotations

import errno
import gc
import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from lpd.errors import LpdError

DEFAULT_PORT = 7860
_PORTS_TRIED = 40


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket on ``port``, or with None on the first free one from 7860 on.

    Raises:
        LpdError: the port is taken, or the address is not one of this machine.
    """
    ports = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if port is None else (port,)
    for candidate in ports:
        try:
            return _listen(host, candidate)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise LpdError(
                    f"cannot listen on {host} port {candidate} ({error.strerror or error}): choose another --host"
                ) from error
    if port is None:
        raise LpdError(f"no port from {ports[0]} to {ports[-1]} is free: name one with --port")
    raise LpdError(f"port {port} is in use or not allowed: stop the other program or choose another --port")


def url_of(host: str, listening: socket.socket) -> str:
    """Address to open in a browser on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listening.getsockname()[1]}"


def serve(app: FastAPI, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C; ``on_ready`` is called once the app answers."""
    # viewers.front decides which proxy is believed; uvicorn would believe whoever is on this machine.
    server = _Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, proxy_headers=False),
        on_ready,
    )
    server.run(sockets=[listening])


def open_browser(url: str) -> None:
    """Open the page without waiting for the browser, which may take its time."""
    threading.Thread(target=webbrowser.open, args=(url,), name="open browser", daemon=True).start()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        gc.freeze()  # what the libraries have made stays: to look through it again took .3 s, and nobody was answered
        self._on_ready()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # on Windows two programs could otherwise share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
