"""An inference under way, whichever protocol it came by: look up, submit, wait, count."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeq.errors import DeadlineError
from edgeq.serve.data_plane import DataPlane, ModelView
from edgeq.serve.requests import InferRequest
from edgeq.serve.statistics import Statistics, Timing
from edgeq.swap import Inference

logger = logging.getLogger(__name__)


class RequestRecord(NamedTuple):
    """One answered infer request; model and version are "" where the client named unknown ones.

    `code` is the protocol's own: an HTTP status, or the name of a gRPC status.
    """

    model: str
    version: str
    protocol: str
    code: str
    seconds: float


@dataclass(eq=False, slots=True)
class Call:
    """What is known about a request so far; used from the event loop only."""

    protocol: str
    started_ns: int = field(default_factory=time.perf_counter_ns)
    model: str = ""
    version: str = ""
    engine: str = ""
    submitted_ns: int = 0
    inference: Inference | None = None
    afterwards: list[Callable[[], None]] = field(default_factory=list)


class Calls:
    """The one way from a protocol's skin to the models.

    A skin makes a `Call`, and passes it to `look_up`, `submit`, `take` or `wait`, and in any case
    to `finish`.

    Args:
        data_plane: runs the models.
        timeout_s: deadline of a request without its own, and the most a client may ask for.
        statistics: counts what was answered.
        on_request: called once for every call, when it is finished.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        timeout_s: float,
        statistics: Statistics,
        on_request: Callable[[RequestRecord], None],
    ) -> None:
        self.data_plane = data_plane
        self._most_s = timeout_s
        self.statistics = statistics
        self._on_request = on_request

    def look_up(self, call: Call, name: str, version: str | None) -> ModelView:
        """Return the model that is meant; NotFoundError without it."""
        view = self.data_plane.model(name, version)
        call.model, call.version, call.engine = view.name, view.version, view.engine
        return view

    def submit(self, call: Call, version: str | None, request: InferRequest) -> Future[Inference]:
        """Queue the inference, or run it at once; errors as `DataPlane.submit`."""
        call.submitted_ns = time.perf_counter_ns()
        return self.data_plane.submit(
            call.model,
            version,
            request.inputs,
            timeout_s=self._timeout_s(request),
            priority=request.priority,
            afterwards=call.afterwards.append,
        )

    def take(self, call: Call, future: Future[Inference]) -> Inference:
        """Return what a future that is done holds, or raise it."""
        inference = call.inference = future.result(0)
        call.version, call.engine = inference.version, inference.engine
        return inference

    async def wait(self, call: Call, request: InferRequest, future: Future[Inference]) -> Inference:
        """Wait for the answer.

        Raises:
            DeadlineError: it did not come in time.
            EdgeqError: what the engine or its queue raised.
        """
        timeout_s = self._timeout_s(request)
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineError(
                f"no answer within {timeout_s:g} s",
                hint="Ask for a longer timeout, send fewer requests, or raise the server's limit.",
            ) from error
        return self.take(call, future)

    def _timeout_s(self, request: InferRequest) -> float:
        return min(request.timeout_s or self._most_s, self._most_s)

    def finish(self, call: Call, code: str, *, succeeded: bool) -> None:
        """Count the call, and do what was left until its answer was sent."""
        ended_ns = time.perf_counter_ns()
        total_ns = ended_ns - call.started_ns
        if succeeded and call.inference is not None:
            self.statistics.succeeded(call.model, call.version, _timing(call, ended_ns))
        elif call.model:
            self.statistics.failed(call.model, call.version, total_ns)
        record = RequestRecord(call.model, call.version, call.protocol, code, total_ns / 1e9)
        self._on_request(record)
        for act in call.afterwards:
            try:
                act()
            except Exception:
                message = "an answered request was not counted, or not kept as a sample"
                logger.exception(message, extra={"model": call.model})


def _timing(call: Call, ended_ns: int) -> Timing:
    """What neither parsing, nor the queue, nor the engine took, the encoding did."""
    assert call.inference is not None
    parse_ns = call.submitted_ns - call.started_ns
    queue_ns, infer_ns = int(call.inference.queue_s * 1e9), int(call.inference.infer_s * 1e9)
    total_ns = ended_ns - call.started_ns
    return Timing(
        parse_ns=parse_ns,
        queue_ns=queue_ns,
        infer_ns=infer_ns,
        encode_ns=max(0, total_ns - parse_ns - queue_ns - infer_ns),
        total_ns=total_ns,
    )
