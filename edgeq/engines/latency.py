"""Engines on this box -> how long an inference takes, measured in turns so that drift cancels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.base import Engine

WARMUP_RUNS = 3  # of each engine, or fewer where that spends the budget
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Latency:
    """Percentiles of one engine's inference time, in milliseconds."""

    engine: str
    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int


def measure(
    engines: Sequence[Engine],
    inputs: Sequence[Mapping[str, npt.NDArray[Any]]],
    *,
    budget_s: float = 1.0,
    runs: int = 200,
) -> list[Latency]:
    """Time every engine on the same inputs, round robin and in alternating order.

    Ends after `runs` rounds or `budget_s` seconds, whichever comes first, but not before 5 rounds.
    The warm-up takes no more than `budget_s` either, but for one run of each engine.
    """
    _warm(engines, inputs[0], budget_s)
    seconds: list[list[float]] = [[] for _ in engines]
    deadline = time.perf_counter() + budget_s
    for turn in range(max(runs, LEAST_ROUNDS)):
        if turn >= LEAST_ROUNDS and time.perf_counter() > deadline:
            break
        order = range(len(engines)) if turn % 2 == 0 else reversed(range(len(engines)))
        for position in order:
            start = time.perf_counter()
            engines[position].infer(inputs[turn % len(inputs)])
            seconds[position].append(time.perf_counter() - start)
    return [_latency(e.kind, taken) for e, taken in zip(engines, seconds, strict=True)]


def _warm(
    engines: Sequence[Engine], inputs: Mapping[str, npt.NDArray[Any]], budget_s: float
) -> None:
    deadline = time.perf_counter() + budget_s
    for turn in range(WARMUP_RUNS):
        if turn and time.perf_counter() > deadline:
            return
        for engine in engines:
            engine.infer(inputs)


def _latency(kind: str, seconds: list[float]) -> Latency:
    p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(seconds, [50, 90, 99]))
    return Latency(kind, p50, p90, p99, len(seconds))
