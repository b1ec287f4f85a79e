"""Errors -> gRPC's status codes, by the one table; what was not raised on purpose is logged."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from grpc import StatusCode

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

logger = logging.getLogger(__name__)

STATUS: dict[type[EdgeqError], StatusCode] = {
    InvalidRequestError: StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: StatusCode.UNAUTHENTICATED,
    ForbiddenError: StatusCode.PERMISSION_DENIED,
    NotFoundError: StatusCode.NOT_FOUND,
    MethodNotAllowedError: StatusCode.UNIMPLEMENTED,
    ConflictError: StatusCode.FAILED_PRECONDITION,
    TooLargeError: StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: StatusCode.UNAVAILABLE,
    TimedOutError: StatusCode.DEADLINE_EXCEEDED,
    DeadlineError: StatusCode.DEADLINE_EXCEEDED,
    SampleError: StatusCode.INVALID_ARGUMENT,
    UsageError: StatusCode.INVALID_ARGUMENT,
    VersionError: StatusCode.FAILED_PRECONDITION,
    EdgeqError: StatusCode.INTERNAL,  # EngineError and whatever else the server itself failed at
}

# Whatever ends a call early: its client gets an answer either way.
CANCELLED_OR_FAILED = (Exception, asyncio.CancelledError)
MAX_DETAILS = 2000  # characters: details travel in a header, of which clients take 8 KiB

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refusal:
    """What a client is told instead of an answer."""

    code: StatusCode
    details: str
    metadata: Metadata = ()


def code_of(error: BaseException) -> StatusCode:
    """Return the status of an error; INTERNAL where the table has none of its classes."""
    if isinstance(error, asyncio.CancelledError):
        return StatusCode.CANCELLED
    kinds = type(error).__mro__
    return next((STATUS[kind] for kind in kinds if kind in STATUS), StatusCode.INTERNAL)


def refusal_of(error: BaseException) -> Refusal:
    """Return what the client is told; what it is not to be told is in the log."""
    if isinstance(error, asyncio.CancelledError):
        return Refusal(StatusCode.CANCELLED, "the request was cancelled")
    if not isinstance(error, EdgeqError):
        logger.error("a request failed unexpectedly", exc_info=error)
        return Refusal(StatusCode.INTERNAL, "internal error; the server's log has it")
    details = error.message[:MAX_DETAILS].encode("utf-8", "replace").decode()
    return Refusal(code_of(error), details, _metadata(error))


def _metadata(error: EdgeqError) -> Metadata:
    """Return the hint, and when to try again: also where gRPC's own retry policy reads it."""
    metadata: list[tuple[str, str]] = []
    if error.hint:
        metadata.append(("x-edgeq-hint", header_text(error.hint)))
    if isinstance(error, UnavailableError):
        metadata.append(("retry-after", str(error.retry_after_s)))
        metadata.append(("grpc-retry-pushback-ms", str(1000 * error.retry_after_s)))
    return tuple(metadata)


def header_text(text: str) -> str:
    """Return a text as a header can carry it: printable ASCII."""
    return text[:MAX_DETAILS].encode("ascii", "backslashreplace").decode().replace("\n", " ")
