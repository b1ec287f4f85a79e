"""POST .../infer -> Calls -> the outputs: the one path that has to be fast."""

from __future__ import annotations

from collections.abc import Awaitable
from concurrent.futures import Future
from functools import partial

from edgeq.serve.calls import Call, Calls
from edgeq.serve.data_plane import ModelView
from edgeq.serve.http.answers import CANCELLED_OR_FAILED, error_answer
from edgeq.serve.http.content import compress, decompress
from edgeq.serve.http.messages import JSON, Answer, Request
from edgeq.serve.http.request_body import parse_infer, remembering_heads
from edgeq.serve.http.response_body import encode_infer
from edgeq.serve.requests import InferRequest
from edgeq.serve.shared_memory import SharedMemory
from edgeq.swap import Inference

HEADER_LENGTH = "Inference-Header-Content-Length"
HEADER_LENGTH_KEY = HEADER_LENGTH.lower().encode()
ABANDONED = 499  # nginx's code for a client that did not wait; only the metrics see it
BINARY = "application/octet-stream"


class InferHandler:
    """Answers at once where the model did: then no task and no other thread is needed."""

    def __init__(self, calls: Calls, regions: SharedMemory) -> None:
        self._calls = calls
        self._regions = regions
        self._head_of = remembering_heads()

    def __call__(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer one request, whatever happens."""
        call = Call("http")
        try:
            version = request.parameters.get("version")
            view = self._calls.look_up(call, request.parameters["name"], version)
            asked = self._read(request, view)
            future = self._calls.submit(call, version, asked)
            if not future.done():
                return self._answer_later(request, call, asked, future)
            answer = self._answer(request, call, asked, self._calls.take(call, future))
        except CANCELLED_OR_FAILED as error:
            answer = error_answer(error, _headers(call))
        return self._counted(call, answer)

    async def _answer_later(
        self, request: Request, call: Call, asked: InferRequest, future: Future[Inference]
    ) -> Answer:
        try:
            inference = await self._calls.wait(call, asked, future)
            answer = self._answer(request, call, asked, inference)
        except CANCELLED_OR_FAILED as error:
            answer = error_answer(error, _headers(call))
            if request.is_abandoned:
                answer.status = ABANDONED
        return self._counted(call, answer)

    def _counted(self, call: Call, answer: Answer) -> Answer:
        succeeded = answer.status == 200
        answer.on_sent = partial(self._calls.finish, call, str(answer.status), succeeded=succeeded)
        return answer

    def _read(self, request: Request, view: ModelView) -> InferRequest:
        body = request.body
        if b"content-encoding" in request.headers:
            encoding = request.header(b"content-encoding")
            body = decompress(encoding, body, request.max_body_bytes)
        length = request.headers.get(HEADER_LENGTH_KEY)
        text = None if length is None else length.decode("latin-1")
        return parse_infer(body, text, view.inputs, view.outputs, self._regions.read, self._head_of)

    def _answer(
        self, request: Request, call: Call, asked: InferRequest, inference: Inference
    ) -> Answer:
        response = encode_infer(
            asked, call.model, inference.version, inference.outputs, self._regions.write
        )
        headers = _headers(call)
        parts, media = response.parts, JSON
        if response.header_length is not None:
            headers[HEADER_LENGTH] = str(response.header_length)
            media = BINARY
        if b"accept-encoding" in request.headers:
            body, encoding = compress(request.header(b"accept-encoding"), b"".join(parts))
            parts = (body,)
            if encoding:
                headers["Content-Encoding"] = encoding
        return Answer(200, parts, media, headers)


def _headers(call: Call) -> dict[str, str]:
    named = {"X-Edgeq-Model-Version": call.version, "X-Edgeq-Engine": call.engine}
    return {key: value for key, value in named.items() if value}
