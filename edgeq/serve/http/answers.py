"""Values and errors -> answers: the one table from error to status, JSON always."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson

from edgeq.errors import (
    ConflictError,
    DeadlineError,
    EdgeqError,
    ForbiddenError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    SampleError,
    TimedOutError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
    VersionError,
)
from edgeq.serve.http.messages import Answer

logger = logging.getLogger(__name__)

STATUS: dict[type[EdgeqError], int] = {
    InvalidRequestError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    TimedOutError: 408,
    ConflictError: 409,
    TooLargeError: 413,
    UnavailableError: 503,
    DeadlineError: 504,
    SampleError: 400,  # an uploaded sample
    UsageError: 400,  # a command's arguments
    VersionError: 409,  # a rollback to where there is none
    EdgeqError: 500,  # EngineError and whatever else the server itself failed at
}

# Whatever ends a handler early: the client gets an answer either way. A request is cancelled
# by the engine's queue when it closes, or by the server when the grace at its end is over.
CANCELLED_OR_FAILED = (Exception, asyncio.CancelledError)


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error; 500 where the table has none of its classes."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON; NaN and infinities become null, JSON having no word for them."""
    return Answer(status, (orjson.dumps(value),), headers=headers or {})


def error_answer(error: BaseException, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with `{"error": ...}`, and the hint where there is one.

    What was not raised on purpose is logged with its traceback, and not shown to the client.
    """
    if isinstance(error, asyncio.CancelledError):
        error = UnavailableError("the request was cancelled; the server is shutting down")
    if not isinstance(error, EdgeqError):
        logger.error("a request failed unexpectedly", exc_info=error)
        return json_answer({"error": "internal error; the server's log has it"}, 500, headers)
    content = {"error": error.message}
    if error.hint:
        content["hint"] = error.hint
    return json_answer(content, status_of(error), {**(headers or {}), **_extra_headers(error)})


def _extra_headers(error: EdgeqError) -> dict[str, str]:
    if isinstance(error, UnavailableError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, MethodNotAllowedError):
        return {"Allow": ", ".join(error.allowed)}
    return {}
