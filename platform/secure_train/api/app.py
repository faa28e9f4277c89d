"""The ASGI application: routes, error answers, size limits, and health."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp, Receive, Scope, Send

from secure_train.api.answers import ANSWERS, Answer
from secure_train.api.auth import is_known
from secure_train.api.control_plane import ControlPlane
from secure_train.api.limits import BodyLimit
from secure_train.api.routes import datasets, evidence, jobs, models, people, searches, worker
from secure_train.wire.base import ErrorBody, ErrorResponse
from secure_train.wire.names import in_words

log = logging.getLogger(__name__)


def create_app(control_plane: ControlPlane) -> FastAPI:
    """Build the application that serves the control plane."""
    # Uploaded rows are private: they are held in memory and never spooled to a temporary file.
    MultiPartParser.spool_max_size = control_plane.settings.max_upload_bytes + 1
    app = routed()
    app.state.control_plane = control_plane
    limit = control_plane.settings.max_upload_bytes
    app.add_middleware(BodyLimit, limit=limit, is_known=lambda token: is_known(control_plane, token))
    _install_error_answers(app)
    return app


def quiet(app: ASGIApp) -> ASGIApp:
    """Keep exceptions from the server, which would log their messages: `unexpected` has told all there is.

    Starlette raises what it has answered once more.
    """

    async def contained(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            log.error("a request ended with %s", type(error).__name__)

    return contained


def routed() -> FastAPI:
    """Build the application's routes alone, which are the same for every control plane."""
    app = FastAPI(
        title="secure-train",
        version=version("secure-train"),
        summary="Train models on data you must not expose.",
        openapi_url=None,  # no route but health is open: `secure_train.api.openapi` prints the document
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}},
    )
    api = APIRouter(prefix="/api/v1")
    for module in (people, datasets, jobs, searches, models, evidence, worker):
        api.include_router(module.router)
    app.include_router(api)
    app.add_api_route("/healthz", health, methods=["GET"], tags=["health"])
    return app


def health() -> dict[str, str]:
    """Say that the process answers. The only route that needs no credential."""
    return {"status": "ok"}


def _answer(answer: Answer) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if answer.status == 401 else None
    return JSONResponse(ErrorResponse(error=answer.body).model_dump(), answer.status, headers=headers)


def _install_error_answers(app: FastAPI) -> None:
    def handler(make: Callable[[Any], Answer]) -> Callable[[Request, Exception], JSONResponse]:
        return lambda _request, error: _answer(make(error))

    for error_type, make in ANSWERS:
        app.add_exception_handler(error_type, handler(make))
    app.add_exception_handler(RequestValidationError, lambda _request, error: _answer(invalid_request(error)))
    app.add_exception_handler(ValidationError, lambda _request, error: _answer(invalid_request(error)))
    app.add_exception_handler(HTTPException, lambda _request, error: _answer(plain_http(error)))
    app.add_exception_handler(Exception, lambda request, error: _answer(unexpected(request, error)))


def invalid_request(error: Any) -> Answer:
    """Answer a body or parameter that does not fit its type: every error, without the values given."""
    details = [
        {"path": ".".join(str(part) for part in entry["loc"]), "message": in_words(entry)}
        for entry in error.errors()
    ]
    summary = "; ".join(f"{entry['path']}: {entry['message']}" for entry in details[:5])
    return Answer(
        422, ErrorBody(code="invalid", message=f"the request is not valid: {summary}", details=details)
    )


def plain_http(error: Any) -> Answer:
    """Answer for what no route takes."""
    code = "not_found" if error.status_code in (404, 405) else "invalid"
    return Answer(error.status_code, ErrorBody(code=code, message=str(error.detail)))


def unexpected(request: Request, error: Exception) -> Answer:
    """Answer for a defect of ours: nothing of the exception leaves, since its message may hold data."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    place = (
        f"{frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}" if frames is not None else "unknown place"
    )
    log.error("%s %s: %s at %s", request.method, request.url.path, type(error).__name__, place)
    return Answer(
        500,
        ErrorBody(
            code="internal",
            message="the control plane failed on this request; nothing was changed",
            hint="its log names the place; please report it",
        ),
    )
