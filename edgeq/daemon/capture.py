"""Answered requests -> the sample store and the drift windows, off the request path.

A request only puts a copy of its inputs, and its answer, into a bounded queue, and only as often
as the rate allows; what does not fit is not captured. The counting and writing happen on the
capture thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeq.daemon.deployment import Deployment
from edgeq.daemon.interface import fits
from edgeq.errors import EdgeqError
from edgeq.swap import Inference

Array = npt.NDArray[Any]
AtWork = Callable[[str], contextlib.AbstractContextManager[None]]
NoteError = Callable[..., object]
logger = logging.getLogger(__name__)

QUEUE_SIZE = 64
LIMITED_LOG_S = 60.0  # between two complaints about the same thing
LEAST_GAP_S = 0.02  # between two captures of a model: frames a moment apart teach nothing new
# Where requests follow each other at once, the 1 ms of work behind a capture delays some that run
# beside it. Their p99 over that without capture, one client (tools/bench_capture.py), by the run:
# 0.99 and 1.05 on VWW (0.4 ms); 1.05 to 1.17 with 0.3 s, and 1.28 with 0.1 s on the digits model.
BUSY_GAP_S = 1.0
IDLE_S = 0.01  # without a request: the next one is not part of a rush


class Captured(NamedTuple):
    """One answered request; the inputs are its own."""

    deployment: Deployment
    inputs: dict[str, Array]
    answer: Inference


class Capture:
    """Offers requests to the stores; `run` is the body of the capture thread.

    Args:
        on_stored: called after each sample that was stored.
        note: notes faults of the box, as `Faults.note_error`.
    """

    def __init__(
        self,
        on_stored: Callable[[Deployment], None],
        note: NoteError = lambda *_, **__: None,
        at_work: AtWork = lambda _: contextlib.nullcontext(),
    ) -> None:
        self._queue: queue.Queue[Captured | None] = queue.Queue(QUEUE_SIZE)
        self._on_stored = on_stored
        self._note = note
        self._at_work = at_work
        self._captured: dict[str, float] = {}  # when the last one was, by model
        self._offered: dict[str, float] = {}
        self._complained = -LIMITED_LOG_S

    def offer(
        self, deployment: Deployment, inputs: Mapping[str, Array], answer: Inference, ratio: float
    ) -> None:
        """Take a share of the requests; called where the answer was made, never waits."""
        if not self._is_due(deployment) or random.random() >= ratio:
            return
        self._captured[deployment.name] = time.monotonic()
        # The arrays may be views of a body that the server reuses after the answer.
        copies = {name: np.array(value) for name, value in inputs.items()}
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(Captured(deployment, copies, answer))

    def _is_due(self, deployment: Deployment) -> bool:
        name, now = deployment.name, time.monotonic()
        since_captured = now - self._captured.get(name, -BUSY_GAP_S)
        since_offered = now - self._offered.get(name, -IDLE_S)
        self._offered[name] = now
        # A float model waits for the samples of its first build: that is soon over.
        is_rush = deployment.noted_engine != "float" and since_offered < IDLE_S
        return since_captured >= (BUSY_GAP_S if is_rush else LEAST_GAP_S)

    def run(self) -> None:
        """Store what was offered until `stop`."""
        while (item := self._queue.get()) is not None:
            with self._at_work("a sample"):  # the disk may hang
                self._keep(item)

    def stop(self) -> None:
        """End `run` after what is in the queue."""
        self._queue.put(None)

    def _keep(self, captured: Captured) -> None:
        deployment, inputs, answer = captured
        live = deployment.slot.live
        if live is None or not fits(inputs, live.inputs):  # of the version before, perhaps
            return
        try:
            watch = deployment.monitor
            if watch is not None and answer.version == live.version:
                watch.see(inputs, answer.outputs)
                time.sleep(0)  # let a waiting request have the interpreter before the next step
            if deployment.store.offer(inputs):
                self._on_stored(deployment)
        except EdgeqError as error:  # a full disk must not end the capture of what follows
            if self._note(error, model=deployment.name) is None:
                self._complain("sample not stored", deployment.name, error.message)
        except Exception as error:  # noqa: BLE001 - nor what nobody thought of: the thread must run
            if self._note(error, "capture failed", model=deployment.name) is None:
                self._complain("capture failed", deployment.name, repr(error))

    def _complain(self, what: str, name: str, reason: str) -> None:
        if time.monotonic() - self._complained >= LIMITED_LOG_S:
            self._complained = time.monotonic()
            logger.warning(what, extra={"model": name, "reason": reason})
