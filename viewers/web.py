"""The web application: routes and Gradio page on one port, behind one guard, with one kind of error answer."""

from __future__ import annotations

import logging

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from lpd.errors import LpdError, OutdatedError
from viewers.access import Access
from viewers.account_routes import account_router
from viewers.annotation_routes import annotation_router
from viewers.annotations import ConflictError
from viewers.arrival_routes import UPLOADS, arrival_router
from viewers.arriving import ExistsError
from viewers.audit import AuditLog, AuditTrail
from viewers.body_limit import MEBIBYTE, BodyLimit
from viewers.compare_routes import compare_router
from viewers.data_prototypes import data_prototype_router
from viewers.errors import NotAllowedError, NotFoundError, NotReadyError, PreparingError
from viewers.figure_routes import figure_router
from viewers.front import Front
from viewers.gate import LOG_IN, Gate
from viewers.guard import RequestGuard
from viewers.image_routes import image_router
from viewers.label_routes import label_router
from viewers.layer_routes import layer_router
from viewers.model_routes import model_router
from viewers.page import build_page, page_style
from viewers.prototype_results import PrototypeResults
from viewers.report_routes import report_router
from viewers.result_routes import result_router
from viewers.review_routes import review_router
from viewers.services import Services
from viewers.sessions import Sessions
from viewers.slide_routes import slide_router
from viewers.static_routes import static_router
from viewers.train.data_routes import data_router
from viewers.train.measuring_routes import measuring_router
from viewers.train.routes import training_router
from viewers.users import UsersFile

_LOG = logging.getLogger(__name__)
#: How errors of ours are answered; the others are the asker's.
_STATUS: tuple[tuple[tuple[type[LpdError], ...], int], ...] = (
    ((NotFoundError, NotReadyError), 404),
    ((NotAllowedError,), 403),
    ((ConflictError, ExistsError, OutdatedError), 409),
)
_LARGEST_BODY = 16 * MEBIBYTE
#: The page uploads nothing through Gradio; a log-in is a name and a password.
_OTHER_BODIES = {"/gradio_api/upload": MEBIBYTE, LOG_IN: 8 * 1024}


def make_app(services: Services, host: str, access: Access | None = None) -> FastAPI:
    """The whole application.

    Args:
        services: what the pages work with.
        host: the address it will listen on, which decides the host names it answers to.
        access: who may come in, and by which proxy; the default is one person on this machine.

    Raises:
        LpdError: the users file cannot be used.
    """
    app = make_api(services, host, access)
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


def make_api(services: Services, host: str, access: Access | None = None) -> FastAPI:
    """The application without its Gradio page: slides, jobs, results and the page's own files."""
    access = access or Access()
    users = UsersFile(access.users) if access.users else None
    sessions = Sessions(services.jobs.folder / ".sessions.json", users) if users else None
    audit = AuditLog(services.jobs.folder / "audit.jsonl")
    app = FastAPI(title="LPD", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (
        slide_router,
        result_router,
        layer_router,
        annotation_router,
        review_router,
        label_router,
        report_router,
        image_router,
        model_router,
        arrival_router,
    ):
        app.include_router(router(services))
    if services.training is not None:
        app.include_router(data_router(services.training))
        app.include_router(data_prototype_router(services, services.training.data_sets))
        app.include_router(measuring_router(services.training))
        app.include_router(training_router(services, services.training))
    results = PrototypeResults(services)
    app.include_router(compare_router(results))
    app.include_router(figure_router(results))
    app.include_router(static_router(services.openseadragon))
    app.include_router(account_router(access, users, sessions, audit))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    app.add_exception_handler(LpdError, _answer_lpd_error)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(Exception, _answer_unexpected)
    # Its presence keeps Gradio from adding its own rules, which would let any site in; nobody is on the list.
    app.add_middleware(CORSMiddleware, allow_origins=[])
    _add_trail(app, services, audit)
    bodies = {**_OTHER_BODIES, **({UPLOADS: services.options.max_upload} if services.options.max_upload else {})}
    app.add_middleware(BodyLimit, limit=_LARGEST_BODY, other=bodies)
    app.add_middleware(Gate, access=access, sessions=sessions)
    app.add_middleware(RequestGuard, bind_host=host, public_hosts=access.public_hosts)
    app.add_middleware(Front, access=access)  # what is added last comes first
    return app


def _add_trail(app: FastAPI, services: Services, audit: AuditLog) -> None:
    def slide_name(slide_id: str) -> str:
        return services.catalogue.file(slide_id).relative

    def job_slide_name(job_id: str) -> str:
        return services.jobs.get(job_id).slide_name

    def label_set_name(labels_id: str) -> str:
        return services.labellings.get(labels_id).scheme.name

    names = {"slide": slide_name, "job": job_slide_name, "labels": label_set_name}
    if services.training:
        data_sets = services.training.data_sets
        names["data"] = lambda data_id: data_sets.get(data_id).relative
    app.add_middleware(AuditTrail, log=audit, names=names)


def _answer_lpd_error(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kinds, code in _STATUS if isinstance(error, kinds)), 400)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, PreparingError):
        return JSONResponse({"error": str(error), "done": error.done}, 503, {**headers, "Retry-After": "1"})
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)


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
