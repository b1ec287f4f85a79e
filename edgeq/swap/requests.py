"""A request, from its wait to its answer: what callers get, and what is told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from edgeq.engines.base import Engine, EngineKind
from edgeq.errors import EdgeqError, EngineError, RequestError

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Afterwards = Callable[[Callable[[], None]], object]  # takes what can wait until an answer is sent

# Clients name 1 as the most urgent, 2 as the next, and 0 (or nothing) for the default: Triton's
# schedule policy. Its default level is set for each model; here 9 levels go before it.
DEFAULT_PRIORITY = 10


class Inference(NamedTuple):
    """The answer to one request, who gave it, and how long it waited and ran."""

    outputs: dict[str, Array]
    version: str
    engine: EngineKind
    queue_s: float = 0.0
    infer_s: float = 0.0  # of the whole batch where it ran in one


class InferRecord(NamedTuple):
    """One request that an engine ran: how long it waited and ran, and whether the engine failed."""

    name: str
    version: str
    engine: EngineKind
    queue_s: float
    infer_s: float
    error: bool
    batch: int = 1  # requests that ran together


Outcome = dict[str, Array] | EdgeqError  # whatever goes wrong is one too: a caller waits for it


def at_once(tell: Callable[[], None]) -> None:
    """Leave nothing for afterwards."""
    tell()


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request on its way to an engine; times as of `time.monotonic`."""

    inputs: Inputs
    submitted: float
    deadline: float
    future: Future[Inference]

    def is_over(self, now: float) -> bool:
        """Say whether nobody needs the answer any more."""
        return now > self.deadline or self.future.cancelled()

    def fail(self, error: RequestError) -> None:
        """End the wait with an error, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def give_up(self, error: RequestError) -> None:
        """End a request that an engine has begun, and will not end."""
        self.future.set_exception(error)


def infer(engine: Engine, inputs: Inputs) -> Outcome:
    """Run once; an error is a value."""
    try:
        return engine.infer(inputs)
    except (RequestError, EngineError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - what an engine's library raises is not ours to list
        failure = EngineError(f"inference failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
