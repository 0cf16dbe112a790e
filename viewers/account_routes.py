"""Routes of the account: log in, log out, who am I."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from viewers.access import Access
from viewers.audit import AuditLog
from viewers.gate import COOKIE, LOG_IN, Visitor, visitor
from viewers.log_in_page import log_in_page
from viewers.sessions import LIFETIME_S, Sessions
from viewers.throttle import Throttle, address_key
from viewers.users import UsersFile

_TRIES_AT_ONCE = 2  # each takes 32 MiB and a core for a tenth of a second


def account_router(access: Access, users: UsersFile | None, sessions: Sessions | None, audit: AuditLog) -> APIRouter:
    """``/api/me``, and with a users file ``/log-in`` and ``/log-out``."""
    router = APIRouter()

    @router.get("/api/me")
    def me(request: Request) -> dict[str, Any]:
        who = visitor(request)
        return {"user": who.name, "may_log_out": sessions is not None, "may_cancel_all": who.may_cancel_all}

    if users is None or sessions is None:
        return router
    log_in = _LogIn(users, sessions, audit, access.root_path)

    @router.get(LOG_IN)
    def page() -> Response:
        return log_in_page()

    @router.post(LOG_IN)
    async def submit(request: Request) -> Response:
        return await log_in.answer(request)

    @router.post("/log-out")
    def log_out(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE, ""))
        audit.note(visitor(request), "log-out")
        answer = RedirectResponse(access.root_path + LOG_IN, 303, {"Cache-Control": "no-store"})
        answer.delete_cookie(COOKIE, path=access.root_path or "/")
        return answer

    return router


class _LogIn:
    """Checks what somebody typed, and slows down who guesses."""

    def __init__(self, users: UsersFile, sessions: Sessions, audit: AuditLog, root_path: str) -> None:
        self._users = users
        self._sessions = sessions
        self._audit = audit
        self._root_path = root_path
        # Short for a name, or anyone could keep its owner out; patient with an address, which a whole ward may share.
        self._by_name = Throttle(free=5, longest_s=30)
        self._by_address = Throttle(free=20, longest_s=300)
        self._places = anyio.CapacityLimiter(_TRIES_AT_ONCE)

    async def answer(self, request: Request) -> Response:
        """The page again with one sentence, or the way on with a session cookie."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
        name, password = (form.get(field, [""])[0] for field in ("name", "password"))
        name, address = name.strip()[:64], visitor(request).address
        wait_s = max(self._by_name.wait_s(name), self._by_address.wait_s(address_key(address)))
        if wait_s:
            problem = f"There were too many attempts: try again in {wait_s} s."
            return log_in_page(problem, name, 429, {"Retry-After": str(wait_s)})
        if not await self._fits(name, password, address):
            return log_in_page("Name and password do not belong together: type both again.", name, 401)
        self._audit.note(Visitor(name, address), "log-in")
        answer = RedirectResponse(self._root_path + _way_on(request.query_params.get("next", "")), 303)
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(name),
            max_age=LIFETIME_S,
            path=self._root_path or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _fits(self, name: str, password: str, address: str) -> bool:
        counted = ((self._by_name, name), (self._by_address, address_key(address)))
        for throttle, key in counted:
            throttle.failed(key)
        if await anyio.to_thread.run_sync(self._users.fits, name, password, limiter=self._places):
            self._by_name.forget(name)
            self._by_address.take_back(address_key(address))
            return True
        # People type passwords into the wrong field: what is no user's name is not written down.
        known = self._users.get(name) is not None
        self._audit.note(Visitor(name if known else "unknown", address), "failed log-in")
        return False


def _way_on(wanted: str) -> str:
    """``wanted`` if it is a place in this app, else the front page."""
    local = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if local and wanted.isascii() else "/"
