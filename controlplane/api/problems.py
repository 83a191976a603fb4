"""Every error as RFC 9457 problem details: what is wrong, where, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controlplane.api.schemas import FieldProblem, ProblemView
from scheduler.errors import ConflictError, InvalidError, NotFoundError, Problem, RefusedError
from scheduler.store.session import StoreUnavailableError
from workloads.fault_words import words_of

log = logging.getLogger("cpn")
MEDIA_TYPE = "application/problem+json"
TITLES = {
    "invalid": "The request is not acceptable", "refused": "Policy forbids this", "unauthenticated": "A valid token is needed",
    "forbidden": "Your role does not allow this", "not-found": "There is no such thing", "conflict": "The present state forbids this",
    "unavailable": "The store does not answer", "internal": "The server failed", "too-large": "Too large",
    "gone": "It is not kept any more",
    "no-room": "The disk is full",
    "media-type": "The body is not JSON",
}  # fmt: skip
BY_STATUS = {
    400: "invalid", 401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "invalid", 409: "conflict", 413: "too-large",
    415: "media-type", 422: "invalid", 503: "unavailable", 410: "gone", 507: "no-room",
}  # fmt: skip


def problem(status: int, kind: str, detail: str, errors: Sequence[FieldProblem] = ()) -> JSONResponse:
    """One problem document as a response."""
    view = ProblemView(type=f"urn:cpn:problem:{kind}", title=TITLES[kind], status=status, detail=detail, errors=list(errors))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(view.model_dump(mode="json"), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error in this form."""
    for kind, handle in _handlers().items():
        app.add_exception_handler(kind, handle)


def answer(request: Request, error: Exception) -> JSONResponse:
    """What is answered where this was raised."""
    handlers = _handlers()
    return next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)(request, error)


def _fields(problems: Sequence[Problem]) -> list[FieldProblem]:
    return [FieldProblem(path=item.path, reason=item.reason, message=item.message) for item in problems]


def faults_of(errors: Iterable[Any]) -> Iterator[Problem]:
    """What pydantic found wrong, with the path of each field."""
    for item in errors:
        place = [str(part) for part in item["loc"] if part not in ("body",)]
        yield Problem(".".join(place), item["type"], words_of(item))


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidError)
    return problem(422, "invalid", str(error), _fields(error.problems))


def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return problem(403, "refused", str(error), _fields(error.problems))


def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):
        # FastAPI leaves a body of another type unread.
        return problem(415, "media-type", "send JSON with the header Content-Type: application/json")
    found = error.errors()
    broken, errors = any(item["type"] == "json_invalid" for item in found), _fields(list(faults_of(found)))
    detail = "; ".join(f"{item.path}: {item.message}" if item.path else item.message for item in errors)
    return problem(400 if broken else 422, "invalid", detail, errors)


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, BY_STATUS.get(error.status_code, "internal"), str(error.detail))


def _internal(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "internal", "the server's log has the details; nothing was changed unless an answer said so")


@cache
def _handlers() -> Mapping[type[Exception], Callable[[Request, Exception], JSONResponse]]:
    return {
        RequestValidationError: _validation,
        InvalidError: _invalid,
        RefusedError: _refused,
        NotFoundError: lambda _, error: problem(404, "not-found", str(error)),
        ConflictError: lambda _, error: problem(409, "conflict", str(error)),
        StoreUnavailableError: lambda _, error: problem(503, "unavailable", str(error)),
        HTTPException: _http,
        Exception: _internal,
    }
