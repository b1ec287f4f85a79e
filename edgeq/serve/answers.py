"""Values and errors -> HTTP responses: the one table from error to status, JSON always."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edgeq.errors import (
    ConflictError,
    DeadlineError,
    EdgeqError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    SampleError,
    TooLargeError,
    UnavailableError,
    UsageError,
)

logger = logging.getLogger(__name__)

STATUS: dict[type[EdgeqError], int] = {
    InvalidRequestError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    UnavailableError: 503,
    DeadlineError: 504,
    SampleError: 400,  # an uploaded sample
    UsageError: 400,  # a command's arguments
    EdgeqError: 500,  # EngineError and whatever else the server itself failed at
}

# Whatever ends an endpoint early: the client gets an answer either way. A request is cancelled
# by the engine's queue when it closes, or by the server when the grace at its end is over.
CANCELLED_OR_FAILED = (Exception, asyncio.CancelledError)


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error; 500 where the table has none of its classes."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON; NaN and infinities become null, JSON having no word for them."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"))
    return Response(text, status, headers, "application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def error_response(error: BaseException, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `{"error": ...}`, and the hint where there is one.

    What was not raised on purpose is logged with its traceback, and not shown to the client.
    """
    if isinstance(error, asyncio.CancelledError):
        error = UnavailableError("the request was cancelled; the server is shutting down")
    if not isinstance(error, EdgeqError):
        logger.error("a request failed unexpectedly", exc_info=error)
        return json_response({"error": "internal error; the server's log has it"}, 500, headers)
    content = {"error": error.message}
    if error.hint:
        content["hint"] = error.hint
    if isinstance(error, UnavailableError):
        headers = {**(headers or {}), "Retry-After": str(error.retry_after_s)}
    return json_response(content, status_of(error), headers)


def guarded(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Let an endpoint answer its own errors."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except CANCELLED_OR_FAILED as error:
            return error_response(error)

    return answer


async def http_error(request: Request, error: Exception) -> Response:
    """Answer the router's own refusals: no such route, or not by this method."""
    assert isinstance(error, HTTPException), "what it is registered for"
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{where[:200]!r} is not possible; {allowed} is"
    else:
        text = f"{where[:200]!r} is unknown; GET /v2 names what the server can"
    return json_response({"error": text}, error.status_code, error.headers)
