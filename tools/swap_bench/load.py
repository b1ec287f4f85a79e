"""Client threads without a pause -> what became of each request, in phases."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.serve_bench.wire import Answer, Connection

ERROR_SHOWN = 120


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent, how long it took, and who answered or what went wrong."""

    sent: float  # time.perf_counter()
    seconds: float
    version: str = ""
    failure: str = ""


class Load:
    """Threads that each send the same request over a connection of their own."""

    def __init__(self, address: tuple[str, int], request: bytes, count: int = 4) -> None:
        self._address, self._request = address, request
        self._stop = threading.Event()
        self._samples: list[list[Sample]] = [[] for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(own,)) for own in self._samples]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Sample]:
        """End all; return the samples in the order in which they were sent."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return sorted((s for own in self._samples for s in own), key=lambda s: s.sent)

    def _run(self, samples: list[Sample]) -> None:
        connection: Connection | None = None
        while not self._stop.is_set():
            sent = time.perf_counter()
            try:
                connection = connection or Connection(self._address)
                answer = connection.ask(self._request)
            except OSError as error:
                connection = None
                samples.append(Sample(sent, time.perf_counter() - sent, failure=repr(error)))
                time.sleep(0.01)  # a server that is gone is not asked a million times
                continue
            samples.append(_sample(sent, time.perf_counter() - sent, answer))
            if answer.status >= 500:  # uvicorn closes after those: not to be counted twice
                connection.close()
                connection = None
        if connection:
            connection.close()


def _sample(sent: float, seconds: float, answer: Answer) -> Sample:
    if answer.status == 200:
        return Sample(sent, seconds, str(answer.json.get("model_version", "")))
    text = " ".join(answer.body.decode(errors="replace").split())
    return Sample(sent, seconds, failure=f"HTTP {answer.status} {text}"[:ERROR_SHOWN].strip())


@dataclass(frozen=True)
class Phase:
    """The requests that were sent between two moments."""

    seconds: float
    requests: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    versions: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)


def phase_of(samples: Iterable[Sample], begun: float, ended: float) -> Phase:
    """Count the requests that were sent from `begun` until `ended`."""
    own = [sample for sample in samples if begun <= sample.sent < ended]
    answered = [sample for sample in own if not sample.failure]
    return Phase(
        ended - begun,
        len(own),
        len(own) - len(answered),
        percentile_ms(answered, 50),
        percentile_ms(answered, 99),
        dict(Counter(sample.version for sample in answered)),
        dict(Counter(sample.failure for sample in own if sample.failure).most_common(3)),
    )


def percentile_ms(samples: Sequence[Sample], share: float) -> float | None:
    if not samples:
        return None
    return float(np.percentile([sample.seconds for sample in samples], share)) * 1e3


def ratio(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None


def as_told(value: Any) -> str:
    return ", ".join(f"{count} x {name}" for name, count in value.items())
