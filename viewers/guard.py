"""Guard: which requests the app answers at all — its own host names, its own pages, nobody else's."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})


class RequestGuard:
    """ASGI middleware against foreign web pages that try to reach the app through a visitor's browser.

    A request is refused if its Host header is a name this machine was not started under (DNS rebinding), or if its
    Origin header belongs to another site (cross-site requests, which Gradio alone would answer with credentials).

    Args:
        app: what to protect.
        bind_host: the address that the server listens on. When it is every interface, any IP address is accepted as
            Host, because rebinding needs a name.
        public_hosts: further names, those that a proxy shows the app under.
    """

    def __init__(self, app: ASGIApp, bind_host: str, public_hosts: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._open_to_network = bind_host in _EVERYWHERE
        self._names = _LOOPBACK | public_hosts | ({bind_host.lower()} - _EVERYWHERE)
        if self._open_to_network:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(Headers(scope=scope))
            if refusal:
                await JSONResponse({"error": refusal}, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "this app does not answer under that host name: open it by the address printed at its start"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "this app does not answer requests from other sites"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or (self._open_to_network and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
