"""A call at the door -> its message, once it may come in: rights, how many at once, how slowly."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc

from edgeq.errors import DeadlineError, TimedOutError, UnavailableError
from edgeq.serve.grpc.peers import Context, authorization_of, peer_of
from edgeq.serve.grpc.status import refusal_of
from edgeq.serve.limits import Limits
from edgeq.serve.rights import Purpose, Rights

SWEEP_S = 0.5  # how much later than its time a call may be cut off


class Gate:
    """Lets calls in and knows those inside; used on the event loop only.

    gRPC's own bound of calls at once would answer RESOURCE_EXHAUSTED, health checks too, and does
    not know how many bytes they hold.

    Args:
        rights: who may do what.
        limits: of calls at once (`max_connections`), their bytes, and how slow a client may be.
        asks_certificates: clients may have shown a certificate.
    """

    def __init__(self, rights: Rights, limits: Limits, *, asks_certificates: bool = False) -> None:
        self._rights = rights
        self._limits = limits
        self._asks_certificates = asks_certificates
        self._inside: dict[asyncio.Task[Any], float] = {}  # until when it must get further
        self._late: set[asyncio.Task[Any]] = set()
        self._held_bytes = 0
        self.most_calls = limits.max_connections
        self._may_pass: asyncio.Event | None = None  # while the server stops
        self.is_stopping = False

    def enter(self, purpose: Purpose, context: Context) -> asyncio.Task[Any]:
        """Let a call in, and return its task; it is inside until its answer is sent.

        Raises:
            UnauthenticatedError, ForbiddenError: it may not.
            UnavailableError: as many as may be are inside.
        """
        peer = peer_of(context, may_have_certificate=self._asks_certificates)
        self._rights.check(purpose, peer, authorization_of(context))
        if len(self._inside) >= self.most_calls and purpose is not Purpose.HEALTH:
            raise UnavailableError(
                f"{len(self._inside)} calls are being answered, as many as are taken",
                hint="Send fewer calls at a time, or raise server.limits.max_connections.",
            )
        task = asyncio.current_task()
        assert task is not None, "handlers run in tasks"
        self._inside[task] = math.inf
        task.add_done_callback(self._forget)  # once its answer is sent
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._inside[task]
        self._late.discard(task)

    async def read(self, task: asyncio.Task[Any], context: Context) -> bytes | None:
        """Wait for the one message of a call; None where there is none.

        All calls wait here while the server begins to stop.
        """
        self._bound(task, self._limits.body_timeout_s)
        message = await context.read()
        self.unbound(task)
        if self._may_pass is not None:
            await self._may_pass.wait()
        return message if isinstance(message, bytes) else None

    def sending(self, task: asyncio.Task[Any]) -> None:
        """Bound the time that the client may take for what it is sent."""
        self._bound(task, self._limits.write_timeout_s)

    def unbound(self, task: asyncio.Task[Any]) -> None:
        """Let a call take its time."""
        self._inside[task] = math.inf

    def _bound(self, task: asyncio.Task[Any], seconds: float) -> None:
        self._inside[task] = asyncio.get_running_loop().time() + seconds

    async def sweep(self) -> None:
        """Cut off who is too slow, for ever; one timer for all calls."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            late = [task for task, until in self._inside.items() if until < now]
            for task in late:
                self._late.add(task)
                task.cancel()

    def hold(self, size: int) -> None:
        """Count a message's bytes until `release`; UnavailableError where they are too many."""
        limit = self._limits.max_buffered_bytes
        if self._held_bytes + size > limit:
            raise UnavailableError(
                f"calls of {self._held_bytes} bytes are being answered; {size} more would be over "
                f"{limit}",
                hint="Send fewer calls at a time, or raise server.limits.max_buffered_bytes.",
            )
        self._held_bytes += size

    def release(self, size: int) -> None:
        """Give back what was held."""
        self._held_bytes -= size

    def cause(self, error: BaseException, context: Context) -> BaseException:
        """Return why a call ended early: for a cancelled one, who cancelled it."""
        if not isinstance(error, asyncio.CancelledError):
            return error
        if asyncio.current_task() in self._late:
            return TimedOutError("the message was not sent, or its answer not taken, in time")
        if self.is_stopping:
            return UnavailableError("the request was cancelled; the server is shutting down")
        if context.time_remaining() == 0:
            return DeadlineError("the client's deadline passed before there was an answer")
        return error

    def close(self) -> None:
        """Have calls that come from now on wait for `resume`."""
        self.is_stopping = True
        self._may_pass = asyncio.Event()

    def resume(self) -> None:
        """Let those go on that wait."""
        if self._may_pass is not None:
            self._may_pass.set()

    def cancel_all(self) -> None:
        """End the calls that are still inside; they are answered UNAVAILABLE."""
        for task in list(self._inside):
            task.cancel()


async def refuse(context: Context, error: BaseException) -> None:
    """End a call with the status of an error; always raises, as gRPC wants it.

    Raises:
        grpc.aio.AbortError: the client was told.
        asyncio.CancelledError: it has gone, or gRPC told it already, e.g. of too large a message.
    """
    refusal = refusal_of(error)
    metadata = (*context.trailing_metadata(), *refusal.metadata)
    try:
        await context.abort(refusal.code, refusal.details, metadata)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError as gone:
        raise asyncio.CancelledError from gone
