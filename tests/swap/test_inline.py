"""A quick model answers on the caller's thread, but only where that holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeq.swap import Slot
from tests.swap.bench import WAIT_S, Bench, answer, golden, held, in_background, wait_until
from tests.swap.fakes import INPUTS, FakeEngine

QUICK = 10.0  # every fake is quicker, even on a busy box


class Recorder(FakeEngine):
    """Notes the threads it runs on, and takes as long as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []
        self.seconds = 0.0

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.threads.append(threading.current_thread())
        time.sleep(self.seconds)
        return super().infer(inputs)


def recorded(bench: Bench, slot: Slot) -> Recorder:
    engine = Recorder()
    bench.engines.append(engine)
    slot.publish("1", lambda: engine, golden(1.0))
    engine.threads.clear()
    return engine


def ran_here(engine: Recorder) -> bool:
    return engine.threads[-1] is threading.current_thread()


def test_a_quick_model_answers_before_submit_returns(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    engine = recorded(bench, slot)
    future = slot.submit(INPUTS, timeout_s=1, priority=3)
    assert future.done()
    assert answer(future) == ("1", 1.0)
    assert ran_here(engine)
    assert future.result().infer_s > 0
    assert bench.records[0].infer_s == future.result().infer_s
    assert slot.queue_length == 0


def test_what_counts_an_inference_can_wait_until_its_answer_is_sent(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    recorded(bench, slot)
    left: list[Callable[[], None]] = []
    future = slot.submit(INPUTS, afterwards=left.append)
    assert answer(future) == ("1", 1.0)
    assert (slot.health.requests, bench.records) == (0, [])
    assert answer(slot.submit(INPUTS, afterwards=left.append)) == ("1", 1.0)  # the engine is free
    for tell in left:
        tell()
    assert slot.health.requests == 2
    assert bench.records[0].infer_s == future.result().infer_s


def test_what_a_worker_ran_is_counted_before_its_answer(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=0.0)
    recorded(bench, slot)
    left: list[Callable[[], None]] = []
    assert answer(slot.submit(INPUTS, afterwards=left.append)) == ("1", 1.0)
    assert (slot.health.requests, len(bench.records), left) == (1, 1, [])


def test_where_the_bound_is_zero_workers_answer(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=0.0)
    engine = recorded(bench, slot)
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)
    assert engine.threads[-1].name == "infer-face"


def test_a_model_that_never_ran_starts_on_a_worker(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK, warmup_runs=0)
    engine = Recorder()
    bench.engines.append(engine)
    slot.publish("1", lambda: engine, None)
    answer(slot.submit(INPUTS))
    assert not ran_here(engine)
    answer(slot.submit(INPUTS))
    assert ran_here(engine)


def test_a_model_that_turns_slow_leaves_the_callers_thread_at_once_and_may_return(
    bench: Bench,
) -> None:
    slot = bench.slot(inline_below_s=0.1)
    engine = recorded(bench, slot)
    engine.seconds = 0.11
    answer(slot.submit(INPUTS))
    assert ran_here(engine)
    engine.seconds = 0.0
    answer(slot.submit(INPUTS))
    assert not ran_here(engine)
    answer(slot.submit(INPUTS))
    assert ran_here(engine)


def test_a_model_that_is_slow_on_the_whole_stays_with_the_workers(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=0.01)
    engine = recorded(bench, slot)
    engine.seconds = 0.03
    for _ in range(12):
        answer(slot.submit(INPUTS))
    engine.seconds = 0.0
    for _ in range(3):
        answer(slot.submit(INPUTS))
        assert not ran_here(engine)


def test_an_engine_that_is_busy_makes_others_wait_for_a_worker(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    engine, gate = held(bench, slot)
    inline = in_background(lambda: slot.submit(INPUTS))
    assert engine.entered.wait(WAIT_S)
    waiting = slot.submit(INPUTS)
    assert not waiting.done()
    assert slot.queue_length == 1
    gate.set()
    assert answer(waiting) == ("1", 1.0)
    assert answer(inline.result(WAIT_S)) == ("1", 1.0)


def test_nobody_overtakes_those_who_wait(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    engine, gate = held(bench, slot)
    inline = in_background(lambda: slot.submit(INPUTS))
    assert engine.entered.wait(WAIT_S)
    first = slot.submit({"x": INPUTS["x"]})
    with slot._lock:  # the moment at which the engine is idle, and the worker not awake yet
        slot._live._idle.append(slot._live.pool.instances[0])  # type: ignore[union-attr]
        assert slot._live.claim() is None  # type: ignore[union-attr]
        slot._live._idle.pop()  # type: ignore[union-attr]
    gate.set()
    answer(first)
    inline.result(WAIT_S)


def test_with_several_instances_a_model_worth_running_side_by_side_uses_them(
    bench: Bench,
) -> None:
    slot = bench.slot(inline_below_s=QUICK, instances=2)
    made: list[Recorder] = []

    def load() -> Recorder:
        made.append(Recorder())
        made[-1].seconds = 0.001
        bench.engines.append(made[-1])
        return made[-1]

    slot.publish("1", load, golden(1.0))
    for engine in made:
        engine.threads.clear()
    answer(slot.submit(INPUTS))
    assert [thread.name for engine in made for thread in engine.threads] == ["infer-face"]


def test_callers_and_workers_never_share_an_engine(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    slot.publish("1", bench.engine, None)  # it fails where two threads are inside

    def ask() -> int:
        for number in range(300):
            value = np.array([[number, 0]], "f4")
            found = slot.submit({"x": value}).result(WAIT_S)
            assert found.outputs["y"][0, 0] == number
        return 300

    clients = [in_background(ask) for _ in range(4)]
    assert sum(client.result(WAIT_S) for client in clients) == 1200
    assert slot.health.requests == 1200
    assert slot.health.errors == 0


def test_a_swap_waits_for_what_runs_on_a_callers_thread(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK)
    old, gate = held(bench, slot)
    inline = in_background(lambda: slot.submit(INPUTS))
    assert old.entered.wait(WAIT_S)
    swap = in_background(lambda: slot.publish("2", lambda: bench.engine(2.0), golden(2.0)))
    wait_until(lambda: slot.live is not None and slot.live.version == "2")
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)
    assert not swap.done()
    assert not old.is_closed
    gate.set()
    swap.result(WAIT_S)
    assert old.is_closed
    assert answer(inline.result(WAIT_S)) == ("1", 1.0)


def test_a_caller_that_outlives_the_drain_closes_the_engine_itself(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=QUICK, drain_timeout_s=0.02)
    old, gate = held(bench, slot)
    inline = in_background(lambda: slot.submit(INPUTS))
    assert old.entered.wait(WAIT_S)
    slot.publish("2", bench.engine, None)
    assert not old.is_closed
    gate.set()
    assert answer(inline.result(WAIT_S)) == ("1", 1.0)
    assert old.is_closed
