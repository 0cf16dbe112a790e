"""Gate: nobody passes without a name, if people have names here; in front of pages, API, tiles and files alike."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from viewers.access import Access
from viewers.errors import NotAllowedError
from viewers.sessions import Sessions

LOG_IN, COOKIE = "/log-in", "lpd_session"
_LONGEST_NAME = 128


@dataclass(frozen=True)
class Visitor:
    """Who asks: the name is empty where nobody has one, that is without ``--auth`` and ``--auth-proxy-header``."""

    name: str = ""
    address: str = ""
    may_cancel_all: bool = True

    def require_may_cancel(self, owner: str) -> None:
        """
        Raises:
            NotAllowedError: the job is somebody else's.
        """
        if not self.may_cancel_all and owner != self.name:
            raise NotAllowedError(f"this job was started by {owner or 'nobody with a name'}: ask them to cancel it")


def visitor(connection: HTTPConnection) -> Visitor:
    """Who asks, as the gate has found."""
    found = getattr(connection.state, "visitor", None)
    return found if isinstance(found, Visitor) else Visitor()


class Gate:
    """ASGI middleware that answers whoever has no name with 401, or in a browser with the way to the log-in page.

    Args:
        app: what is behind; it finds out by :func:`visitor` who asks.
        access: how people prove who they are.
        sessions: the sessions, with a users file.
    """

    def __init__(self, app: ASGIApp, access: Access, sessions: Sessions | None) -> None:
        self._app = app
        self._access = access
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            name = await self._name(scope)
            if name is None and not (self._sessions and self._path(scope) == LOG_IN):
                await self._refusal(scope)(scope, receive, send)
                return
            address = scope["client"][0] if scope.get("client") else ""
            may_cancel_all = not self._access.guarded or name in self._access.admins
            scope = {**scope, "state": {**scope.get("state", {})}}
            scope["state"]["visitor"] = Visitor(name or "", address, may_cancel_all)
        await self._app(scope, receive, send)

    async def _name(self, scope: Scope) -> str | None:
        if self._access.proxy_header:
            return self._name_from_proxy(scope)
        if self._sessions:
            token = HTTPConnection(scope).cookies.get(COOKIE, "")
            return await run_in_threadpool(self._sessions.user, token) if token else None
        return ""

    def _name_from_proxy(self, scope: Scope) -> str | None:
        told = Headers(scope=scope).getlist(self._access.proxy_header)
        if not self._access.believes(scope["state"]["peer"]) or len(told) != 1:
            return None
        try:
            name = told[0].encode("latin-1").decode("utf-8").strip()
        except UnicodeDecodeError:
            name = told[0].strip()
        return name if name.isprintable() and 0 < len(name) <= _LONGEST_NAME else None

    def _refusal(self, scope: Scope) -> Response:
        stay = {"Cache-Control": "no-store"}
        if self._access.proxy_header and not self._access.believes(scope["state"]["peer"]):
            return JSONResponse({"error": "this app is reached through its proxy only"}, 403, stay)
        if self._access.proxy_header:
            return JSONResponse({"error": "the proxy did not say who you are: log in there"}, 401, stay)
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and "text/html" in Headers(scope=scope).get("accept", "")
        ):
            query = scope["query_string"].decode("latin-1")
            back = self._path(scope) + (f"?{query}" if query else "")
            return RedirectResponse(f"{self._access.root_path}{LOG_IN}?next={quote(back, safe='')}", 303, stay)
        return JSONResponse({"error": "you are not logged in: reload the page and log in"}, 401, stay)

    def _path(self, scope: Scope) -> str:
        return str(scope["path"]).removeprefix(self._access.root_path)
