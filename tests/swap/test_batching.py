"""Requests run together only where their answers stay the same, and never at each other's cost."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from edgeq.bundle import Golden
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.swap import Inference, Slot
from edgeq.swap.batching import Together, infer_together, load_together
from edgeq.tflite.runtime import TensorSpec
from tests import tiny
from tests.calibrate.batchable import batchable_model
from tests.swap.bench import WAIT_S, Bench, answer, golden, in_background, wait_until
from tests.swap.fakes import INPUTS, BatchableFake, FakeEngine

GOLDEN = Golden(
    tuple({"x": np.array([[row, 1]], "f4")} for row in range(3)),
    tuple({"y": np.array([[2 * row, 2]], "f4")} for row in range(3)),
)
SIZE = 4


def made(bench: Bench, **options: Any) -> tuple[Slot, BatchableFake]:
    slot = bench.slot(max_batch=SIZE, **options)
    engine = BatchableFake(2.0)
    slot.publish("1", lambda: engine, GOLDEN)
    bench.engines += [engine, *engine.twins]
    for one in (engine, *engine.twins):
        one.seen.clear()
    return slot, engine


def value(number: float) -> dict[str, Any]:
    return {"x": np.array([[number, 1]], "f4")}


def first_of(future: Future[Inference]) -> float:
    return float(future.result(WAIT_S).outputs["y"][0, 0])


def behind_another(
    bench: Bench, slot: Slot, engine: BatchableFake, *requests: Mapping[str, Any]
) -> list[Future[Inference]]:
    """Submit requests that meet in the queue, because another one runs meanwhile."""
    gate = engine.gate = bench.gate()
    engine.entered.clear()
    slot.submit(value(-1))
    assert engine.entered.wait(WAIT_S)
    futures = [slot.submit(inputs) for inputs in requests]
    gate.set()
    return futures


def batching_of(slot: Slot) -> str:
    assert slot.live is not None
    return slot.live.batching


def test_requests_that_wait_run_together_and_get_their_own_answers(bench: Bench) -> None:
    slot, engine = made(bench)
    assert batching_of(slot) == "2 to 4 requests run together"
    futures = behind_another(bench, slot, engine, *map(value, range(6)))
    assert [first_of(future) for future in futures] == [0, 2, 4, 6, 8, 10]
    (twin,) = engine.twins
    assert [rows[:, 0].tolist() for rows in twin.seen] == [[0, 1, 2, 3], [4, 5, 5, 5]]
    assert len(engine.seen) == 1, "only the first one ran alone"
    assert futures[0].result().outputs["y"].shape == (1, 2)


def test_each_request_of_a_batch_is_told_of_with_its_own_wait(bench: Bench) -> None:
    slot, engine = made(bench)
    futures = behind_another(bench, slot, engine, *map(value, range(3)))
    assert [first_of(future) for future in futures] == [0, 2, 4]
    wait_until(lambda: len(bench.records) == 4)
    assert [record.batch for record in bench.records] == [1, 3, 3, 3]
    waits = [record.queue_s for record in bench.records[1:]]
    assert waits == sorted(waits, reverse=True)
    found = futures[0].result()
    assert (found.queue_s, found.infer_s) == (waits[0], bench.records[1].infer_s)
    assert slot.health.requests == 4


def gathering(slot: Slot) -> bool:
    return slot._live is not None and slot._live._gathering > 0


def test_the_first_waits_a_little_for_others(bench: Bench) -> None:
    slot, engine = made(bench, max_delay_us=10_000_000)
    started = time.monotonic()
    futures = [slot.submit(value(0))]
    wait_until(lambda: gathering(slot))
    futures += [slot.submit(value(number)) for number in range(1, SIZE)]
    assert [first_of(future) for future in futures] == [0, 2, 4, 6]
    assert time.monotonic() - started < WAIT_S, "a full batch waits no longer"
    assert len(engine.twins[0].seen) == 1


def test_who_is_alone_when_the_delay_is_over_runs_alone(bench: Bench) -> None:
    slot, engine = made(bench, max_delay_us=1000)
    assert first_of(slot.submit(value(5))) == 10
    assert (len(engine.seen), engine.twins[0].seen) == (1, [])


def test_what_does_not_fit_the_batch_goes_to_another_instance_afterwards(bench: Bench) -> None:
    slot = bench.slot(max_batch=SIZE, instances=2, max_delay_us=100_000)
    engines = [BatchableFake(2.0), BatchableFake(2.0)]
    rest = iter(engines)
    slot.publish("1", lambda: next(rest), GOLDEN)
    bench.engines += [one for engine in engines for one in (engine, *engine.twins)]
    first = slot.submit(value(1))
    wait_until(lambda: gathering(slot))
    wide = slot.submit({"x": np.zeros((1, 3), "f4")})
    assert first_of(first) == 2
    with pytest.raises(EngineError, match="AssertionError"):
        wide.result(WAIT_S)


def test_a_malformed_request_fails_alone(bench: Bench) -> None:
    slot, engine = made(bench)
    wrong = {"x": np.array([[1, 1]], "f8")}
    futures = behind_another(bench, slot, engine, value(1), wrong, value(3))
    assert [first_of(futures[0]), first_of(futures[2])] == [2, 6]
    with pytest.raises(InvalidRequestError, match="'x' has type float64"):
        futures[1].result(WAIT_S)
    assert len(engine.twins[0].seen) == 1
    assert slot.health.errors == 0


def test_a_batch_that_fails_is_run_one_by_one(bench: Bench) -> None:
    slot, engine = made(bench)
    engine.twins[0].fail = lambda: EngineError("no memory")
    futures = behind_another(bench, slot, engine, *map(value, range(3)))
    assert [first_of(future) for future in futures] == [0, 2, 4]
    assert slot.health.errors == 0
    engine.fail = lambda: EngineError("the driver is gone")
    futures = behind_another(bench, slot, engine, *map(value, range(2)))
    for future in futures:
        with pytest.raises(EngineError, match="the driver is gone"):
            future.result(WAIT_S)
    assert slot.health.errors == 3


def test_requests_of_other_shapes_are_not_stacked(bench: Bench) -> None:
    slot, engine = made(bench)
    wide = {"x": np.zeros((1, 3), "f4")}
    futures = behind_another(bench, slot, engine, value(1), wide, value(2))
    assert [first_of(futures[0]), first_of(futures[2])] == [2, 4]
    assert [rows[:, 0].tolist() for rows in engine.twins[0].seen] == [[1, 2, 2, 2]]
    assert isinstance(futures[1].exception(WAIT_S), EngineError)


def spoilt(change: str) -> BatchableFake:
    """Return an engine whose twin is no twin."""
    engine = BatchableFake(2.0)

    def make_twin(size: int) -> BatchableFake:
        if change == "none":
            raise EngineError("the runtime refuses the model: reshape")
        twin = BatchableFake(3.0 if change == "answers" else 2.0, size)
        if change == "mixed":
            infer = twin.infer
            twin.infer = lambda inputs: {"y": infer(inputs)["y"][::-1]}  # type: ignore[method-assign]
        if change == "outputs":
            twin.outputs = (TensorSpec("y", (1, 2), np.dtype("f4")),)
        if change == "slow":
            twin.seconds = 0.02
        return twin

    engine.make_twin = make_twin
    return engine


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("none", "off: the runtime refuses the model: reshape"),
        ("answers", "off: together the answers are others: output 'y' of golden input"),
        ("mixed", "off: together the answers are others: output 'y' of golden input"),
        ("outputs", r"off: output 'y' of 4 samples has shape \[1, 2\]"),
        ("slow", r"off: 4 samples take 2\d\.\d+ ms together and \d+\.\d+ ms one by one"),
    ],
)
def test_a_model_that_is_no_better_off_in_a_batch_runs_alone_and_says_why(
    bench: Bench, change: str, reason: str
) -> None:
    slot, engine = bench.slot(max_batch=SIZE), spoilt(change)
    slot.publish("1", lambda: engine, GOLDEN)
    bench.engines += [engine, *engine.twins]
    assert all(twin.is_closed for twin in engine.twins)
    assert re.match(reason, batching_of(slot)), batching_of(slot)
    futures = behind_another(bench, slot, engine, *map(value, range(3)))
    assert [first_of(future) for future in futures] == [0, 2, 4]


def test_an_engine_that_has_no_twin_says_so(bench: Bench) -> None:
    slot = bench.slot(max_batch=SIZE)
    slot.publish("1", bench.engine, golden(1.0))
    assert batching_of(slot) == "off: a cpu-int8 engine takes one sample at a time"
    slot.publish("2", lambda: BatchableFake(1.0), None)
    assert batching_of(slot) == "off: there are no golden answers to check it with"
    scalar = BatchableFake(1.0)
    scalar.inputs = (*scalar.inputs, TensorSpec("k", (), np.dtype("f4")))
    inputs = {**INPUTS, "k": np.zeros((), "f4")}
    slot.publish("3", lambda: scalar, Golden((inputs,), ({"y": INPUTS["x"]},)))
    assert batching_of(slot) == "off: 'k' has shape [], not one sample's"


def test_nobody_asked_for_batches_so_nothing_is_said(bench: Bench) -> None:
    slot = bench.slot()
    slot.publish("1", bench.engine, golden(1.0))
    assert batching_of(slot) == ""


def test_requests_that_may_run_together_meet_on_workers(bench: Bench) -> None:
    slot, _ = made(bench, inline_below_s=10.0)
    assert not slot.submit(value(1)).done()


def test_a_real_model_that_cannot_change_its_extents_says_so() -> None:
    engine = CpuEngine(tiny.tiny_model().to_bytes(), "float", threads=1)
    inputs = tiny.tiny_inputs()
    with pytest.raises(EngineError, match="the runtime refuses the model"):
        load_together(engine, Golden((inputs,), (engine.infer(inputs),)), SIZE)


@pytest.mark.parametrize("count", [2, 3])
def test_a_real_model_answers_alike_alone_and_in_a_batch(count: int) -> None:
    inputs = [tiny.tiny_inputs(seed) for seed in range(count)]
    engine = CpuEngine(batchable_model().to_bytes(), "float", threads=1)
    together = Together(engine.batched(3), size=3, least=2)
    for one, outcome in zip(inputs, infer_together(engine, together, inputs), strict=True):
        assert isinstance(outcome, dict)
        for name, wanted in engine.infer(one).items():
            np.testing.assert_allclose(outcome[name], wanted, rtol=1e-4, atol=1e-6)


def test_a_swap_takes_the_twins_with_it(bench: Bench) -> None:
    slot, engine = made(bench)
    other = BatchableFake(2.0)
    swap = in_background(lambda: slot.publish("2", lambda: other, GOLDEN))
    swap.result(WAIT_S)
    bench.engines += [other, *other.twins]
    assert engine.is_closed
    assert engine.twins[0].is_closed
    assert answer(slot.submit(value(1))) == ("2", 2.0)


def test_a_twin_is_freed_where_the_version_is_refused(bench: Bench) -> None:
    first, second = BatchableFake(2.0), FakeEngine(2.0)
    engines = iter((first, second))
    slot = bench.slot(max_batch=SIZE, instances=2)
    slot.publish("1", lambda: next(engines), GOLDEN)
    bench.engines += [first, second, *first.twins]
    assert batching_of(slot).startswith("off: a cpu-int8 engine")
    assert [twin.is_closed for twin in first.twins] == [True]
