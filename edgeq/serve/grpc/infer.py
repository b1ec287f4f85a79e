"""ModelInfer and ModelStreamInfer -> Calls -> the outputs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from edgeq.errors import InvalidRequestError
from edgeq.serve.calls import Call, Calls
from edgeq.serve.grpc.gate import Gate
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.grpc.peers import Context
from edgeq.serve.grpc.request_message import read_infer
from edgeq.serve.grpc.response_message import ResponseWriter
from edgeq.serve.grpc.status import CANCELLED_OR_FAILED, Metadata, code_of
from edgeq.serve.requests import InferRequest
from edgeq.serve.shared_memory import SharedMemory
from edgeq.swap import Inference


@dataclass(eq=False)
class Asked:
    """A request on its way; `future` is None where it ended before it was submitted."""

    call: Call
    id: str = ""
    held_bytes: int = 0
    request: InferRequest | None = None
    future: Future[Inference] | None = None
    error: BaseException | None = None


class InferHandler:
    """What unary and streamed requests have in common: submit, wait, encode, count."""

    def __init__(self, calls: Calls, regions: SharedMemory, messages: Messages, gate: Gate) -> None:
        self._calls = calls
        self._regions = regions
        self._request = messages["ModelInferRequest"]
        self._writer = ResponseWriter(messages, regions.write)
        self._gate = gate

    async def answer(self, content: bytes, context: Context) -> bytes:
        """Answer one ModelInferRequest; raises what ended it early."""
        asked = self.submit(content, context)
        parts = await self.finish(asked, context)
        context.set_trailing_metadata(metadata_of(asked.call))
        if asked.error is not None:
            raise asked.error
        return b"".join(parts)

    def submit(self, content: bytes, context: Context) -> Asked:
        """Start one; what is wrong with it is in what comes back."""
        asked = Asked(Call("grpc"))
        try:
            self._gate.hold(len(content))
            asked.held_bytes = len(content)
            message = parse(self._request, content)
            asked.id = message.id
            version = message.model_version or None
            view = self._calls.look_up(asked.call, message.model_name, version)
            asked.request = read_infer(
                message, view.inputs, view.outputs, self._regions.read, context.time_remaining()
            )
            asked.future = self._calls.submit(asked.call, version, asked.request)
        except CANCELLED_OR_FAILED as error:
            asked.error = error
        return asked

    async def finish(self, asked: Asked, context: Context) -> list[Any]:
        """Wait for the answer and return its parts; none where `asked.error` says why."""
        parts: list[Any] = []
        try:
            if asked.error is None:
                parts = await self._parts(asked)
        except CANCELLED_OR_FAILED as error:
            asked.error = self._gate.cause(error, context)
        self._end(asked)
        return parts

    async def _parts(self, asked: Asked) -> list[Any]:
        call, request, future = asked.call, asked.request, asked.future
        assert request is not None, "read, as there is no error"
        assert future is not None, "submitted, as there is no error"
        if future.done():
            inference = self._calls.take(call, future)
        else:
            inference = await self._calls.wait(call, request, future)
        return self._writer.parts(request, call.model, inference.version, inference.outputs)

    def drop(self, asked: Asked) -> None:
        """Give up on a request, its client having gone."""
        if asked.future is not None:
            asked.future.cancel()
        asked.error = asked.error or asyncio.CancelledError()
        self._end(asked)

    def _end(self, asked: Asked) -> None:
        self._gate.release(asked.held_bytes)
        code = "OK" if asked.error is None else code_of(asked.error).name
        self._calls.finish(asked.call, code, succeeded=asked.error is None)


def parse(kind: Message, content: bytes) -> Message:
    """Read a message; InvalidRequestError where the bytes are none."""
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidRequestError(
            f"the message is no {kind.DESCRIPTOR.full_name}: {len(content)} bytes do not parse",
            hint="Build the client from the Open Inference Protocol's grpc_service.proto.",
        ) from error


def metadata_of(call: Call) -> Metadata:
    """Return which version and engine answered; nothing where none was reached."""
    named = (("x-edgeq-model-version", call.version), ("x-edgeq-engine", call.engine))
    return tuple(pair for pair in named if pair[1])
