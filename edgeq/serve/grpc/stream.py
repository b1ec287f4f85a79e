"""ModelStreamInfer: requests and answers of one stream, in order, a few of them at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from edgeq.errors import UnavailableError
from edgeq.serve.grpc.gate import Gate
from edgeq.serve.grpc.infer import Asked, InferHandler
from edgeq.serve.grpc.messages import Messages
from edgeq.serve.grpc.peers import Context
from edgeq.serve.grpc.response_message import in_stream
from edgeq.serve.grpc.status import refusal_of

DEPTH = 16  # requests of one stream that wait or run at once; further ones stay with the client


class _Line:
    """The requests of one stream that are not answered yet; None ends it."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(DEPTH)
        self._waiting: asyncio.Queue[Asked | None] = asyncio.Queue()

    def put(self, asked: Asked | None) -> None:
        self._waiting.put_nowait(asked)

    async def next(self) -> Asked | None:
        return await self._waiting.get()

    def rest(self) -> list[Asked]:
        entries = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        return [entry for entry in entries if entry is not None]


class StreamHandler:
    """An error of a request is its answer, and the stream goes on."""

    def __init__(self, infer: InferHandler, messages: Messages, gate: Gate) -> None:
        self._infer = infer
        self._response = messages["ModelStreamInferResponse"]
        final = messages["ModelInferResponse"]()
        final.parameters["triton_final_response"].bool_param = True
        self._final = final.SerializeToString()  # each request has one response
        self._gate = gate
        self._most = max(1, gate.most_calls // 2)  # an idle stream must not keep calls out
        self._readers: set[asyncio.Task[None]] = set()

    async def answer(self, task: asyncio.Task[Any], context: Context) -> None:
        """Answer requests until the client has no more; raises what ended that early.

        Args:
            task: what the gate gave.
            context: the call's.
        """
        if len(self._readers) >= self._most:
            raise UnavailableError(
                f"{self._most} streams are open, as many as are taken",
                hint="Use fewer streams, or raise server.limits.max_connections.",
            )
        line = _Line()
        reader = asyncio.create_task(self._read(context, line))
        self._readers.add(reader)
        try:
            while (asked := await line.next()) is not None:
                parts = await self._infer.finish(asked, context)
                self._gate.sending(task)
                await context.write(b"".join(self._wrapped(asked, parts)))
                self._gate.unbound(task)
                line.room.release()
            await reader
        finally:
            self._readers.discard(reader)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            for asked in line.rest():
                self._infer.drop(asked)
        if self._gate.is_stopping:
            raise UnavailableError("the stream was ended; the server is shutting down")

    async def _read(self, context: Context, line: _Line) -> None:
        try:
            while await line.room.acquire():
                content = await context.read()
                if not isinstance(content, bytes):
                    break
                line.put(self._infer.submit(content, context))
        except asyncio.CancelledError:
            if not self._gate.is_stopping:
                raise
        finally:
            line.put(None)

    def _wrapped(self, asked: Asked, parts: list[Any]) -> list[Any]:
        if asked.error is None:
            return in_stream([*parts, self._final])
        response = self._response(error_message=refusal_of(asked.error).details)
        response.infer_response.id = asked.id  # so that the client knows which one failed
        return [response.SerializeToString()]

    def stop(self) -> None:
        """Take no further requests; those inside are answered, then the streams end."""
        for reader in list(self._readers):
            reader.cancel()
