"""Answered requests of a version -> the previous version's answers to them, and how they differ.

Off the request path: a request only leaves a copy in a bounded queue, and only as often as the
gap allows; the previous engine answers on a thread of its own, at most a tenth of the time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.base import Engine
from edgeq.errors import EdgeqError
from edgeq.swap.pool import close_engines
from edgeq.swap.probation import Latency, LatencyRecord
from edgeq.verify import OutputComparison, Task, wilson_upper

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

QUEUE_SIZE = 8
PATIENCE_S = 10.0  # for the comparison that runs when all is to end
LEAST_GAP_S = 0.05  # between two requests that are compared
DUTY = 0.1  # of the time, at most, is the shadow's engine at work
MIN_COMPARED = 20  # requests before any verdict


@dataclass(frozen=True)
class ShadowOptions:
    """Which requests are compared, and from where on their answers disagree.

    An output that chooses a class disagrees by the share of other choices, any other by one less
    its mean cosine, as the gate measures both.
    """

    ratio: float = 1.0  # share of the requests that are offered
    max_other_choices: float = 0.1
    max_cosine_distance: float = 0.1
    task: Task = "auto"


@dataclass(frozen=True)
class ShadowReport:
    """How far a version's answers are from the previous one's; of the output that is farthest."""

    compared: int = 0
    judged: int = 0  # of these, answers that differed, which the float model was asked about
    disagreement: float = 0.0
    surely: float = 0.0  # the least it is, at 95 %
    limit: float = 1.0
    output: str = ""
    latency: Latency = field(default_factory=Latency)  # of the previous engine, meanwhile
    problem: str = ""  # why nothing is compared


def shadow_verdict(report: ShadowReport) -> str:
    """Return the reason to roll back, or "" where there is none."""
    if report.compared < MIN_COMPARED or report.surely <= report.limit:
        return ""
    return (
        f"output {report.output!r} disagrees by {report.disagreement:.1%} over {report.compared} "
        f"requests (at least {report.surely:.1%}); probation allows {report.limit:.1%}"
    )


class Shadow:
    """The previous version beside the live one; `start`, `offer` from any thread, `close`.

    Args:
        version: the live one, whose answers are looked at.
        load: makes the previous version's engine, on the shadow's thread.
        load_judge: makes the float model that both came from; where two INT8 versions differ, the
            new one is right if it says what float says. None: the previous version is right.
        options: what is compared.
    """

    def __init__(
        self,
        version: str,
        load: Callable[[], Engine],
        load_judge: Callable[[], Engine] | None,
        options: ShadowOptions,
    ) -> None:
        self.version = version
        self._load = load
        self._load_judge = load_judge
        self._options = options
        self._queue: queue.SimpleQueue[tuple[Arrays, Arrays] | None] = queue.SimpleQueue()
        self._next = 0.0  # time.monotonic(): no request is copied before
        self._draw = Random()
        self._times = LatencyRecord()
        self._engines: list[Engine] = []
        self._comparisons: dict[str, OutputComparison] = {}
        self._judged = 0
        self._report = ShadowReport()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"shadow-{version}", daemon=True)

    @property
    def report(self) -> ShadowReport:
        """What was found until now."""
        return self._report

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, inputs: Arrays, outputs: Arrays, version: str) -> None:
        """Take a share of the answers of the live version; never waits."""
        now = time.monotonic()
        if now < self._next or version != self.version or self._is_closed:
            return
        self._next = now + LEAST_GAP_S
        if self._queue.qsize() < QUEUE_SIZE and self._draw.random() < self._options.ratio:
            # The inputs may be views of a body that the server reuses after the answer.
            self._queue.put((_copied(inputs), _copied(outputs)))

    def close(self) -> None:
        """End after the comparison that runs, and free the engines; one that hangs is left."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join(PATIENCE_S)

    # ---- on the shadow's thread

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None and not self._is_closed:
                started = time.monotonic()
                self._compare(*item)
                took_s = time.monotonic() - started
                self._next = max(self._next, time.monotonic() + took_s * (1 / DUTY - 1))
        except Exception as error:  # noqa: BLE001 - what an engine's library raises is not ours to list
            what = error.message if isinstance(error, EdgeqError) else repr(error)
            self._report = ShadowReport(problem=f"the previous version cannot answer: {what}")
            self._is_closed = True
        finally:
            close_engines(self._engines)

    def _compare(self, inputs: Arrays, outputs: Arrays) -> None:
        previous = self._engine(0, self._load, inputs)
        started = time.monotonic()
        expected = previous.infer(inputs)
        self._times.add(time.monotonic() - started)
        if self._load_judge and not self._agrees(expected, outputs):
            expected = self._engine(1, self._load_judge, inputs).infer(inputs)
            self._judged += 1
        for name, value in outputs.items():
            comparison = self._comparisons.setdefault(name, self._comparison(name))
            comparison.add(expected[name], value)
        worst = max((self._found(c) for c in self._comparisons.values()), key=_excess)
        self._report = worst

    def _engine(self, place: int, load: Callable[[], Engine], inputs: Arrays) -> Engine:
        """Load what is not loaded yet; the first inference is slow and is not timed."""
        if len(self._engines) <= place:
            self._engines.append(load())
            self._engines[place].infer(inputs)
        return self._engines[place]

    def _comparison(self, name: str) -> OutputComparison:
        return OutputComparison(name, self._options.task)

    def _agrees(self, expected: Arrays, outputs: Arrays) -> bool:
        for name, value in outputs.items():
            one = self._comparison(name)
            one.add(expected[name], value)
            found = self._measure(one)
            if found.disagreement > (0.0 if found.is_choice else found.limit):
                return False
        return True

    def _found(self, comparison: OutputComparison) -> ShadowReport:
        found = self._measure(comparison)
        return ShadowReport(
            compared=found.compared,
            judged=self._judged,
            disagreement=found.disagreement,
            surely=found.surely,
            limit=found.limit,
            output=comparison.name,
            latency=self._times.latency,
        )

    def _measure(self, comparison: OutputComparison) -> _Measure:
        options, fidelity = self._options, comparison.fidelity()
        compared = fidelity.compared + fidelity.reshaped
        bad = fidelity.reshaped / compared if compared else 0.0
        if fidelity.accepted is not None and not fidelity.reshaped:
            wrong = 1.0 - fidelity.accepted
            right = round(fidelity.accepted * compared)
            surely = 1.0 - wilson_upper(right, compared)
            return _Measure(compared, wrong, surely, options.max_other_choices, True)
        distance = bad + (1.0 - bad) * (1.0 - fidelity.cosine) if compared else 0.0
        return _Measure(compared, distance, distance, options.max_cosine_distance, False)


@dataclass(frozen=True)
class _Measure:
    compared: int
    disagreement: float
    surely: float
    limit: float
    is_choice: bool


def _excess(report: ShadowReport) -> float:
    return report.surely - report.limit


def _copied(arrays: Arrays) -> dict[str, Array]:
    return {name: np.array(value) for name, value in arrays.items()}
