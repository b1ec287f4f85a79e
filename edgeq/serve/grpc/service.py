"""The calls of inference.GRPCInferenceService -> who answers each, and who may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from edgeq.errors import InvalidRequestError, MethodNotAllowedError
from edgeq.serve.calls import Calls
from edgeq.serve.grpc.gate import Gate, refuse
from edgeq.serve.grpc.infer import InferHandler, parse
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.grpc.models import ModelCalls
from edgeq.serve.grpc.peers import Context
from edgeq.serve.grpc.regions import RegionCalls
from edgeq.serve.grpc.repository import InThread, RepositoryCalls
from edgeq.serve.grpc.schema import RPCS, SERVICE
from edgeq.serve.grpc.status import CANCELLED_OR_FAILED
from edgeq.serve.grpc.stream import StreamHandler
from edgeq.serve.rights import Purpose, Rights
from edgeq.serve.shared_memory import SharedMemory

Answer = Callable[[Message], "Message | Awaitable[Message]"]
AnswerBytes = Callable[[bytes, Context], Awaitable[bytes]]


@dataclass(frozen=True)
class GrpcParts:
    """What the calls stand on; `in_thread` runs what may take its time, e.g. a load."""

    calls: Calls
    rights: Rights
    regions: SharedMemory
    in_thread: InThread


class Service:
    """All calls, as gRPC wants them: coroutines that take bytes and give bytes.

    Every one of them is registered as a client's stream, which on the wire is the same: only so is
    a message waited for here, after the call was let in and with a bound on how long it may take.
    """

    def __init__(self, parts: GrpcParts, gate: Gate) -> None:
        self._messages = Messages()
        self._gate = gate
        self._infer = InferHandler(parts.calls, parts.regions, self._messages, gate)
        self.streams = StreamHandler(self._infer, self._messages, gate)
        self._answers = self._table(parts)

    def _table(self, parts: GrpcParts) -> dict[str, tuple[Purpose, Answer]]:
        calls, messages = parts.calls, self._messages
        models = ModelCalls(calls.data_plane, calls.statistics, messages)
        repository = RepositoryCalls(calls.data_plane, parts.in_thread, messages)
        regions = RegionCalls(parts.regions, messages)
        return {
            "ServerLive": (Purpose.HEALTH, models.server_live),
            "ServerReady": (Purpose.HEALTH, models.server_ready),
            "ServerMetadata": (Purpose.USE, models.server_metadata),
            "ModelReady": (Purpose.USE, models.model_ready),
            "ModelMetadata": (Purpose.USE, models.model_metadata),
            "ModelConfig": (Purpose.USE, models.model_config),
            "ModelStatistics": (Purpose.USE, models.model_statistics),
            "RepositoryIndex": (Purpose.USE, repository.index),
            "RepositoryModelLoad": (Purpose.CHANGE_MODELS, repository.load),
            "RepositoryModelUnload": (Purpose.CHANGE_MODELS, repository.unload),
            "SystemSharedMemoryStatus": (Purpose.USE, regions.status),
            "SystemSharedMemoryRegister": (Purpose.CHANGE_MODELS, regions.register),
            "SystemSharedMemoryUnregister": (Purpose.CHANGE_MODELS, regions.unregister),
            "CudaSharedMemoryStatus": (Purpose.USE, regions.cuda_status),
            "CudaSharedMemoryRegister": (Purpose.CHANGE_MODELS, regions.cuda_register),
            "CudaSharedMemoryUnregister": (Purpose.CHANGE_MODELS, regions.cuda_unregister),
            "TraceSetting": (Purpose.USE, _refuse_tracing),
            "LogSettings": (Purpose.USE, _refuse_log_settings),
        }

    def handler(self) -> Any:
        """Return what a gRPC server takes."""
        handlers = {
            "ModelInfer": grpc.stream_unary_rpc_method_handler(
                self._unary(Purpose.USE, self._infer.answer)
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream()),
        }
        for rpc in RPCS:
            if rpc.name in self._answers:
                purpose, answer = self._answers[rpc.name]
                request = self._messages[rpc.request_message]
                handlers[rpc.name] = grpc.stream_unary_rpc_method_handler(
                    self._unary(purpose, self._in_bytes(request, answer))
                )
        known = {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}
        return _Handlers(known, self._unknown())

    def _unknown(self) -> Any:
        """Refuse a call that nobody knows.

        Left to gRPC, one whose client has gone before it is told ends in a traceback in the log.
        """

        async def handle(_: Any, context: Context) -> None:
            error = MethodNotAllowedError("the call is unknown; ServerMetadata names what there is")
            await refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(handle)

    def _unary(self, purpose: Purpose, answer: AnswerBytes) -> Any:
        gate = self._gate

        async def handle(_: Any, context: Context) -> bytes:
            try:
                task = gate.enter(purpose, context)
                content = await gate.read(task, context)
                if content is None:
                    raise InvalidRequestError("the call brought no message; one is expected")
                response = await answer(content, context)
            except CANCELLED_OR_FAILED as error:
                await refuse(context, gate.cause(error, context))
                raise  # not reached: refuse raises
            gate.sending(task)
            return response

        return handle

    def _in_bytes(self, request: Message, answer: Answer) -> AnswerBytes:
        async def answer_bytes(content: bytes, context: Context) -> bytes:
            self._gate.hold(len(content))
            try:
                response = answer(parse(request, content))
                if isinstance(response, Awaitable):
                    response = await response
            finally:
                self._gate.release(len(content))
            encoded: bytes = response.SerializeToString()
            return encoded

        return answer_bytes

    def _stream(self) -> Any:
        gate, streams = self._gate, self.streams

        async def handle(_: Any, context: Context) -> None:
            try:
                await streams.answer(gate.enter(Purpose.USE, context), context)
            except CANCELLED_OR_FAILED as error:
                await refuse(context, gate.cause(error, context))

        return handle


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc] # of a library without types
    """The handlers by the path of their call; `unknown` for all other paths."""

    def __init__(self, handlers: Mapping[str, Any], unknown: Any) -> None:
        self._handlers = handlers
        self._unknown = unknown

    def service(self, handler_call_details: Any) -> Any:
        """Return what answers a call."""
        return self._handlers.get(handler_call_details.method, self._unknown)


def _refuse_tracing(_: Message) -> Message:
    raise MethodNotAllowedError(
        "trace settings are not kept: /metrics and ModelStatistics tell where the time goes",
        allowed=("ModelStatistics",),
    )


def _refuse_log_settings(_: Message) -> Message:
    raise MethodNotAllowedError(
        "log settings are not taken over the network: set log.level and reload the configuration",
        allowed=(),
    )
