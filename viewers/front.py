"""Front: the first to see a request. Takes a trusted proxy's word, forgets anybody else's, knows the prefix."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from viewers.access import Access

#: What else a client could claim about where it comes from or where the app is.
_CLAIMS = (b"forwarded", b"x-forwarded-", b"x-real-ip", b"x-gradio-server")


class Front:
    """ASGI middleware after which a request's client address, scheme, host and path are the true ones.

    ``X-Forwarded-For``, ``-Proto`` and ``-Host`` count when a trusted proxy sends them, and are removed in any case, so
    that nothing behind can believe them again. A path gets the root path in front if the proxy has taken it away.
    ``scope["state"]["peer"]`` keeps the address at the other end of the line.

    Args:
        app: what is behind.
        access: proxies and prefix.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._true(scope)
            if self._access.root_path and scope["path"] == self._access.root_path:
                await RedirectResponse(self._access.root_path + "/", 307)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _true(self, scope: Scope) -> Scope:
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        kept = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(_CLAIMS)]
        claimed_user = self._access.proxy_header.encode()
        kept += [(n, v) for n, v in scope["headers"] if n.lower() == claimed_user and (n, v) not in kept]
        scope = {**scope, "state": {**scope.get("state", {}), "peer": peer}}
        if self._access.believes(peer):
            if host := _last(headers, "x-forwarded-host"):
                kept = [(name, value) for name, value in kept if name.lower() != b"host"]
                kept.append((b"host", host.encode("latin-1")))
            scheme = _last(headers, "x-forwarded-proto").lower()
            if scheme in ("http", "https"):
                scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme
            scope["client"] = (self._client(headers) or peer, 0)
        return self._with_prefix({**scope, "headers": kept})

    def _client(self, headers: Headers) -> str:
        """The address that the outermost trusted proxy has seen; what stands before it, the client made up."""
        told = [part.strip() for line in headers.getlist("x-forwarded-for") for part in line.split(",")]
        for address in reversed(told):
            if not self._access.believes(address):
                return address[:64]
        return told[0] if told else ""

    def _with_prefix(self, scope: Scope) -> Scope:
        root, path = self._access.root_path, scope["path"]
        if not root:
            return scope
        if path != root and not path.startswith(root + "/"):
            path = root + path
            scope["raw_path"] = root.encode() + (scope.get("raw_path") or scope["path"].encode())
        return {**scope, "path": path, "root_path": root}


def _last(headers: Headers, name: str) -> str:
    """The value that the nearest proxy has added."""
    values = headers.getlist(name)
    return values[-1].split(",")[-1].strip() if values else ""
