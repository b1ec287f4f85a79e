from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from edgeq.engines import latency
from edgeq.engines.base import EngineKind

INPUTS = [{"x": np.zeros(1, np.float32)}, {"x": np.ones(1, np.float32)}]


class Clock:
    """Time that passes only where a test lets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedEngine:
    """An engine whose inference takes a known time; writes down who was asked what."""

    inputs = outputs = ()

    def __init__(
        self, clock: Clock, kind: EngineKind, seconds: Callable[[], float], log: list[tuple]
    ) -> None:
        self.kind = kind
        self._clock, self._seconds, self._log = clock, seconds, log

    def infer(self, inputs):
        self._log.append((self.kind, float(inputs["x"][0])))
        self._clock.now += self._seconds()
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency.time, "perf_counter", clock)
    return clock


def test_the_percentiles_are_those_of_the_runs_in_milliseconds(clock):
    durations = itertools.chain([9.0] * latency.WARMUP_RUNS, (n / 1000 for n in range(1, 102)))
    engine = TimedEngine(clock, "float", lambda: next(durations), [])
    (figure,) = latency.measure([engine], INPUTS, budget_s=1e9, runs=101)
    assert (figure.engine, figure.runs) == ("float", 101)
    assert figure.p50_ms == pytest.approx(51)
    assert figure.p90_ms == pytest.approx(91)
    assert figure.p99_ms == pytest.approx(100)


def test_the_engines_take_turns_in_alternating_order_on_the_same_input(clock):
    log: list[tuple] = []
    engines = [TimedEngine(clock, kind, lambda: 0.001, log) for kind in ("float", "cpu-int8")]
    latency.measure(engines, INPUTS, runs=6)
    rounds = log[2 * latency.WARMUP_RUNS :]
    assert rounds[:8] == [
        ("float", 0.0), ("cpu-int8", 0.0), ("cpu-int8", 1.0), ("float", 1.0),
        ("float", 0.0), ("cpu-int8", 0.0), ("cpu-int8", 1.0), ("float", 1.0),
    ]  # fmt: skip


def test_each_engine_s_time_is_its_own(clock):
    engines = [
        TimedEngine(clock, "float", lambda: 0.004, []),
        TimedEngine(clock, "cpu-int8", lambda: 0.001, []),
    ]
    float_figure, int8_figure = latency.measure(engines, INPUTS)
    assert float_figure.p50_ms == pytest.approx(4.0)
    assert int8_figure.p50_ms == pytest.approx(1.0)


def test_the_budget_ends_the_measurement_but_not_before_five_rounds(clock):
    slow = TimedEngine(clock, "float", lambda: 10.0, [])
    (figure,) = latency.measure([slow], INPUTS, budget_s=1.0)
    assert figure.runs == latency.LEAST_ROUNDS
    quick = TimedEngine(clock, "float", lambda: 0.1, [])
    (figure,) = latency.measure([quick], INPUTS, budget_s=1.0)
    assert figure.runs == pytest.approx(11, abs=1)


def test_a_slow_engine_is_warmed_once_only(clock):
    log: list[tuple] = []
    slow = TimedEngine(clock, "float", lambda: 10.0, log)
    latency.measure([slow], INPUTS, budget_s=1.0)
    assert len(log) == 1 + latency.LEAST_ROUNDS


def test_no_engine_has_no_figures(clock):
    assert latency.measure([], INPUTS, runs=5) == []
