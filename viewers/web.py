"""The web application: routes and Gradio page on one port, behind one guard, with one kind of error answer."""

from __future__ import annotations

import logging

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from lpd.errors import LpdError
from viewers.annotation_routes import annotation_router
from viewers.annotations import ConflictError
from viewers.errors import NotFoundError, NotReadyError
from viewers.guard import RequestGuard
from viewers.layer_routes import layer_router
from viewers.page import build_page, page_style
from viewers.result_routes import result_router
from viewers.services import Services
from viewers.slide_routes import slide_router
from viewers.static_routes import static_router

_LOG = logging.getLogger(__name__)


def make_app(services: Services, host: str) -> FastAPI:
    """The whole application.

    Args:
        services: what the pages work with.
        host: the address it will listen on, which decides the host names it answers to.
    """
    app = make_api(services, host)
    style = page_style()
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build_page(),
        path="/",
        app_kwargs={"openapi_url": None},
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size="1mb",
        ssr_mode=False,
        show_error=False,
        theme=style.theme,
        head=style.head,
    )
    return mounted


def make_api(services: Services, host: str) -> FastAPI:
    """The application without its Gradio page: slides, jobs, results and the page's own files."""
    app = FastAPI(title="LPD", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (slide_router, result_router, layer_router, annotation_router):
        app.include_router(router(services))
    app.include_router(static_router(services.openseadragon))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    app.add_exception_handler(LpdError, _answer_lpd_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(Exception, _answer_unexpected)
    # Its presence keeps Gradio from adding its own rules, which would let any site in; nobody is on the list.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    app.add_middleware(RequestGuard, bind_host=host)
    return app


def _answer_lpd_error(_request: Request, error: Exception) -> JSONResponse:
    status = (
        404 if isinstance(error, NotFoundError | NotReadyError) else 409 if isinstance(error, ConflictError) else 400
    )
    return JSONResponse({"error": str(error)}, status_code=status, headers={"Cache-Control": "no-store"})


def _answer_malformed(_request: Request, error: Exception) -> JSONResponse:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    where = ".".join(str(part) for part in details[0]["loc"][1:]) if details else "the request"
    what = str(details[0]["msg"]).lower() if details else "malformed"
    return JSONResponse({"error": f"{where or 'the request'} is not valid: {what}"}, status_code=400)


def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse(
        {"error": "something went wrong on the server: the console of the app says what"}, status_code=500
    )
