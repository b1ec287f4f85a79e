"""A call -> how long it takes, as percentiles over many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WARM_RUNS = 20
LEAST_RUNS = 20


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds of one call, from its inputs in the host's memory to its results there."""

    p50_ms: float
    p99_ms: float
    runs: int


def time_calls(
    call: Callable[[], object], *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Percentiles:
    """Call for some seconds, one call after the other, after a warm-up."""
    for _ in range(WARM_RUNS):
        call()
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < LEAST_RUNS or clock() < end:
        start = clock()
        call()
        taken.append(clock() - start)
    return percentiles(taken)


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Summarize the seconds of single calls."""
    p50, p99 = (float(value) * 1e3 for value in np.percentile(seconds, [50, 99]))
    return Percentiles(p50, p99, len(seconds))
