"""Requests are answered, refused or failed, and never left waiting."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from edgeq.errors import (
    DeadlineError,
    EngineError,
    InvalidRequestError,
    SwapError,
    UnavailableError,
)
from edgeq.swap import Health, InferRecord, Slot, SwapOptions
from tests.swap.bench import WAIT_S, Bench, answer, golden, held, in_background, wait_until
from tests.swap.fakes import INPUTS, FakeEngine

# Serving.


def test_a_slot_answers_with_the_version_and_the_engine(bench: Bench) -> None:
    slot = bench.slot()
    before = time.time()
    assert 0 <= slot.publish("7", lambda: bench.engine(2.0), golden(2.0)) < WAIT_S
    inference = slot.submit(INPUTS, timeout_s=5).result(WAIT_S)
    assert (inference.version, inference.engine) == ("7", "cpu-int8")
    assert inference.outputs["y"].tolist() == [[2.0, 4.0]]
    live = slot.live
    assert live is not None
    assert (live.version, live.engine) == ("7", "cpu-int8")
    assert [spec.name for spec in live.inputs + live.outputs] == ["x", "y"]
    assert before <= live.since <= time.time()


def test_the_engine_that_answered_is_named_where_it_is_another_than_was_published(
    bench: Bench,
) -> None:
    slot = bench.slot()
    engine = bench.engine(2.0)
    engine.kind = "cuda-int8"
    slot.publish("7", lambda: engine, golden(2.0))
    assert slot.submit(INPUTS).result(WAIT_S).engine == "cuda-int8"
    engine.kind, engine.fault = "cpu-int8", "the context is lost"
    assert slot.submit(INPUTS).result(WAIT_S).engine == "cpu-int8"
    assert [record.engine for record in bench.records] == ["cuda-int8", "cpu-int8"]
    live = slot.live
    assert live is not None
    assert (live.engine, live.fault) == ("cpu-int8", "the context is lost")
    engine.kind, engine.fault = "cuda-int8", ""
    assert slot.live is not None
    assert (slot.live.engine, slot.live.fault) == ("cuda-int8", "")


def test_an_empty_slot_is_unavailable(bench: Bench) -> None:
    slot = bench.slot()
    with pytest.raises(UnavailableError, match="'face' has no engine") as caught:
        slot.submit(INPUTS)
    assert caught.value.retry_after_s == 1
    assert slot.live is None
    assert slot.health == Health()


def test_each_inference_is_told_of_with_its_times(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    first = slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    second = slot.submit(INPUTS)
    time.sleep(0.02)
    gate.set()
    answer(first)
    answer(second)
    ran, waited = bench.records
    assert (ran.name, ran.version, ran.engine, ran.error) == ("face", "1", "cpu-int8", False)
    assert ran.infer_s >= 0.02
    assert ran.queue_s >= 0
    assert waited.queue_s >= 0.02


def test_as_many_requests_run_at_once_as_there_are_instances(bench: Bench) -> None:
    slot = bench.slot(instances=3)
    gate = bench.gate()
    gate.set()
    slot.publish("1", lambda: bench.engine(gate=gate), None)
    gate.clear()
    for engine in bench.engines:
        engine.entered.clear()
    futures = [slot.submit(INPUTS) for _ in range(4)]
    wait_until(lambda: all(engine.entered.is_set() for engine in bench.engines))
    assert slot.queue_length == 1
    gate.set()
    assert [answer(future)[0] for future in futures] == ["1"] * 4


# The queue.


def test_a_full_queue_refuses_and_recovers(bench: Bench) -> None:
    slot = bench.slot(queue_size=2)
    engine, gate = held(bench, slot)
    futures = [slot.submit(INPUTS) for _ in range(3)]
    assert engine.entered.wait(WAIT_S)
    assert slot.queue_length == 2
    with pytest.raises(UnavailableError, match=r"3 requests waiting or running; it takes 3"):
        slot.submit(INPUTS)
    gate.set()
    assert [answer(future)[0] for future in futures] == ["1"] * 3
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)
    assert slot.queue_length == 0


def test_one_client_after_the_other_never_meets_a_full_queue(bench: Bench) -> None:
    slot = bench.slot(queue_size=0)
    slot.publish("1", bench.engine, None)
    for _ in range(300):
        assert answer(slot.submit(INPUTS)) == ("1", 1.0)


def test_a_request_that_waited_too_long_is_not_run(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    first, late = slot.submit(INPUTS), slot.submit(INPUTS, timeout_s=0.01)
    time.sleep(0.02)
    runs = engine.runs
    gate.set()
    with pytest.raises(DeadlineError, match=r"waited \d\.\d\d\d s for 'face'"):
        late.result(WAIT_S)
    answer(first)
    assert engine.runs == runs + 1
    assert slot.health == Health(requests=1)


def test_a_cancelled_request_is_not_run_and_holds_nothing(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    first, second = slot.submit(INPUTS), slot.submit(INPUTS)
    assert second.cancel()
    runs = engine.runs
    gate.set()
    answer(first)
    slot.publish("2", bench.engine, None)
    assert engine.runs == runs + 1
    assert engine.is_closed


# What goes wrong in an engine.


def test_an_engine_error_reaches_the_caller_and_is_counted(bench: Bench) -> None:
    slot = bench.slot()
    engine = bench.engine()
    slot.publish("1", lambda: engine, None)
    engine.fail = lambda: EngineError("the driver is gone")
    with pytest.raises(EngineError, match="the driver is gone"):
        slot.submit(INPUTS).result(WAIT_S)
    engine.fail = lambda: ZeroDivisionError("in the library")
    with pytest.raises(EngineError, match="ZeroDivisionError: in the library") as caught:
        slot.submit(INPUTS).result(WAIT_S)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert slot.health == Health(requests=2, errors=2)
    assert [record.error for record in bench.records] == [True, True]


def test_a_bad_request_reaches_the_caller_and_does_not_count(bench: Bench) -> None:
    slot = bench.slot()
    engine = bench.engine()
    slot.publish("1", lambda: engine, None)
    engine.fail = lambda: InvalidRequestError("input 'x' is missing")
    with pytest.raises(InvalidRequestError, match="input 'x' is missing"):
        slot.submit(INPUTS).result(WAIT_S)
    assert slot.health == Health()
    assert bench.records == []


def test_outputs_that_are_not_finite_are_answered_and_counted(bench: Bench) -> None:
    slot = bench.slot()
    engine = bench.engine()
    slot.publish("1", lambda: engine, golden(1.0))
    engine.answer = {"y": np.array([[np.nan, 1.0]], "f4")}
    assert np.isnan(slot.submit(INPUTS).result(WAIT_S).outputs["y"][0, 0])
    assert slot.health == Health(requests=1, nonfinite=1)


def test_a_new_version_starts_with_a_clean_record(bench: Bench) -> None:
    slot = bench.slot()
    slot.publish("1", bench.engine, None)
    answer(slot.submit(INPUTS))
    assert slot.health == Health(requests=1)
    slot.publish("2", bench.engine, None)
    assert slot.health == Health()


def test_a_listener_that_fails_does_not_cost_the_answer() -> None:
    def fail(record: InferRecord) -> None:
        raise ZeroDivisionError

    slot = Slot("face", SwapOptions(inline_below_s=0.0), fail)
    slot.publish("1", FakeEngine, None)
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)
    slot.close()


# The end.


def test_close_answers_what_is_inside_and_refuses_the_rest(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    inside = [slot.submit(INPUTS) for _ in range(3)]
    closing = in_background(slot.close)
    wait_until(lambda: slot._is_closing)
    with pytest.raises(UnavailableError, match="is being unloaded"):
        slot.submit(INPUTS)
    gate.set()
    assert [answer(future) for future in inside] == [("1", 1.0)] * 3
    closing.result(WAIT_S)
    assert engine.is_closed
    assert slot.live is None


def test_close_gives_up_on_what_never_ends_and_leaves_no_caller_waiting(bench: Bench) -> None:
    slot = bench.slot(drain_timeout_s=0.02)
    engine, gate = held(bench, slot)
    hung, waiting = slot.submit(INPUTS), slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    slot.close()
    with pytest.raises(UnavailableError, match="was unloaded"):
        waiting.result(WAIT_S)
    assert not engine.is_closed
    gate.set()
    assert answer(hung) == ("1", 1.0)
    wait_until(lambda: engine.is_closed)


def test_close_gives_up_on_what_an_older_version_never_ends(bench: Bench) -> None:
    slot = bench.slot(drain_timeout_s=0.02)
    old, gate = held(bench, slot)
    hung = slot.submit(INPUTS)
    assert old.entered.wait(WAIT_S)
    slot.publish("2", bench.engine, None)
    in_background(slot.close).result(WAIT_S)
    assert not hung.done()
    gate.set()
    assert answer(hung) == ("1", 1.0)


def test_a_closed_slot_publishes_nothing(bench: Bench) -> None:
    slot = bench.slot()
    slot.close()
    with pytest.raises(SwapError, match="the slot is closing"):
        slot.publish("1", bench.engine, None)
    assert bench.engines == []


def test_close_during_a_swap_ends_both_versions(bench: Bench) -> None:
    slot = bench.slot()
    slot.publish("1", bench.engine, None)
    loading, loaded = threading.Event(), bench.gate()

    def slow_load() -> FakeEngine:
        loading.set()
        assert loaded.wait(WAIT_S)
        return bench.engine(2.0)

    swap = in_background(lambda: slot.publish("2", slow_load, None))
    assert loading.wait(WAIT_S)
    closing = in_background(slot.close)
    wait_until(lambda: slot._is_closing)
    loaded.set()
    swap.result(WAIT_S)
    closing.result(WAIT_S)
    assert [engine.is_closed for engine in bench.engines] == [True, True]


def test_every_request_during_a_close_gets_an_answer_or_a_refusal(bench: Bench) -> None:
    slot = bench.slot(instances=2)
    slot.publish("1", bench.engine, None)

    def ask() -> None:
        with contextlib.suppress(UnavailableError):
            while True:
                answer(slot.submit(INPUTS))

    clients = [in_background(ask) for _ in range(4)]
    time.sleep(0.02)
    slot.close()
    for client in clients:
        client.result(WAIT_S)
