"""POST .../infer -> DataPlane.submit -> the outputs: the one path that has to be fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgeq.errors import DeadlineError
from edgeq.serve.answers import CANCELLED_OR_FAILED, error_response
from edgeq.serve.content import Headers, compress, read_body
from edgeq.serve.data_plane import DataPlane, ModelView
from edgeq.serve.protocol import InferRequest, parse_infer
from edgeq.serve.response import InferResponse, encode_infer
from edgeq.serve.statistics import Statistics, Timing
from edgeq.swap import Inference

HEADER_LENGTH = "Inference-Header-Content-Length"
HEADER_LENGTH_KEY = HEADER_LENGTH.lower().encode()


@dataclass(frozen=True)
class RequestRecord:
    """One answered infer request; model and version are "" where the client named unknown ones."""

    model: str
    version: str
    protocol: str
    code: int
    seconds: float


@dataclass(frozen=True)
class InferOptions:
    """Bounds of one request; `timeout_s` is the default, and the most a client may ask for."""

    max_body_bytes: int
    timeout_s: float


@dataclass
class _Call:
    """What is known about a request so far."""

    started_ns: int
    model: str = ""
    version: str = ""
    engine: str = ""

    def about(self, model: str, version: str, engine: str) -> None:
        self.model, self.version, self.engine = model, version, engine

    def headers(self) -> dict[str, str]:
        named = {"X-Edgeq-Model-Version": self.version, "X-Edgeq-Engine": self.engine}
        return {key: value for key, value in named.items() if value}


class InferEndpoint:
    """An ASGI app of its own, below the router: Starlette's Request costs more than it gives here.

    Args:
        data_plane: runs the models.
        options: bounds of one request.
        statistics: counts what was answered.
        on_request: called once for every request, after its response was sent.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        options: InferOptions,
        statistics: Statistics,
        on_request: Callable[[RequestRecord], None],
    ) -> None:
        self._data_plane = data_plane
        self._options = options
        self._statistics = statistics
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        call = _Call(time.perf_counter_ns())
        try:
            response = await self._answer(scope, receive, call)
        except CANCELLED_OR_FAILED as error:
            response = error_response(error, call.headers())
        await response(scope, receive, send)
        self._record(call, response.status_code)

    def _record(self, call: _Call, code: int) -> None:
        elapsed_ns = time.perf_counter_ns() - call.started_ns
        if code != 200 and call.model:
            self._statistics.failed(call.model, call.version, elapsed_ns)
        self._on_request(RequestRecord(call.model, call.version, "http", code, elapsed_ns / 1e9))

    async def _answer(self, scope: Scope, receive: Receive, call: _Call) -> Response:
        headers: Headers = dict(scope["headers"])
        name, version = scope["path_params"]["name"], scope["path_params"].get("version")
        view = self._data_plane.model(name, version)
        call.about(view.name, view.version, view.engine)
        request = await self._read(headers, receive, view)
        parsed_ns = time.perf_counter_ns()
        inference = await self._infer(name, version, request)
        inferred_ns = time.perf_counter_ns()
        call.about(view.name, inference.version, inference.engine)
        answer = encode_infer(request, view.name, inference.version, inference.outputs)
        response = _response(answer, headers, call)
        ended_ns = time.perf_counter_ns()
        timing = Timing(
            parse_ns=parsed_ns - call.started_ns,
            wait_ns=inferred_ns - parsed_ns,
            encode_ns=ended_ns - inferred_ns,
            total_ns=ended_ns - call.started_ns,
        )
        self._statistics.succeeded(view.name, inference.version, timing)
        return response

    async def _read(self, headers: Headers, receive: Receive, view: ModelView) -> InferRequest:
        options = self._options
        body = await read_body(
            headers, receive, max_bytes=options.max_body_bytes, timeout_s=options.timeout_s
        )
        length = headers.get(HEADER_LENGTH_KEY)
        text = None if length is None else length.decode("latin-1")
        return parse_infer(body, text, view.inputs, view.outputs)

    async def _infer(self, name: str, version: str | None, request: InferRequest) -> Inference:
        timeout_s = min(request.timeout_s or self._options.timeout_s, self._options.timeout_s)
        future = self._data_plane.submit(name, version, request.inputs, timeout_s)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineError(
                f"no answer within {timeout_s:g} s",
                hint="Ask for a longer timeout, send fewer requests, or raise the server's limit.",
            ) from error


def _response(answer: InferResponse, request_headers: Headers, call: _Call) -> Response:
    headers = call.headers()
    body, media = answer.body, "application/json"
    if answer.header_length is not None:
        headers[HEADER_LENGTH] = str(answer.header_length)
        media = "application/octet-stream"
    accepted = request_headers.get(b"accept-encoding")
    if accepted:
        body, encoding = compress(accepted.decode("latin-1"), body)
        if encoding:
            headers["Content-Encoding"] = encoding
    return Response(body, 200, headers, media)
