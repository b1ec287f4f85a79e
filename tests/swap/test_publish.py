"""Requests stay with the version they met; no swap loses one, and no bad version is let in."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from edgeq.bundle import Golden
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import BundleError, EngineError, SwapError, UnavailableError
from edgeq.swap import Health, Slot, SwapOptions
from tests import tiny
from tests.swap.bench import WAIT_S, Bench, answer, golden, held, in_background, wait_until
from tests.swap.fakes import INPUTS, FakeEngine


def test_requests_stay_with_the_version_they_met(bench: Bench) -> None:
    slot = bench.slot()
    old, gate = held(bench, slot)
    met_old = [slot.submit(INPUTS) for _ in range(3)]
    assert old.entered.wait(WAIT_S)
    swap = in_background(lambda: slot.publish("2", lambda: bench.engine(2.0), golden(2.0)))
    wait_until(lambda: slot.live is not None and slot.live.version == "2")
    met_new = slot.submit(INPUTS)
    assert not swap.done()
    assert not old.is_closed
    gate.set()
    assert [answer(future) for future in met_old] == [("1", 1.0)] * 3
    assert answer(met_new) == ("2", 2.0)
    swap.result(WAIT_S)
    assert old.is_closed


def test_the_old_version_serves_while_the_new_one_loads(bench: Bench) -> None:
    slot = bench.slot()
    slot.publish("1", bench.engine, None)
    loading, loaded = threading.Event(), bench.gate()

    def slow_load() -> FakeEngine:
        loading.set()
        assert loaded.wait(WAIT_S)
        return bench.engine(2.0)

    swap = in_background(lambda: slot.publish("2", slow_load, golden(2.0)))
    assert loading.wait(WAIT_S)
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)
    loaded.set()
    swap.result(WAIT_S)
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)


def broken_load() -> FakeEngine:
    raise BundleError("file 'int8.tflite' was altered", hint="Build the bundle again.")


def broken_run() -> FakeEngine:
    engine = FakeEngine()
    engine.fail = lambda: EngineError("no memory")
    return engine


@pytest.mark.parametrize("policy", ["load-then-drop", "drop-then-load"])
@pytest.mark.parametrize(
    ("load", "expected", "reason"),
    [
        (broken_load, None, "file 'int8.tflite' was altered"),
        (broken_run, None, "no memory"),
        (FakeEngine, golden(3.0), "does not reproduce its golden answers"),
        (lambda: 1 / 0, None, "division by zero"),
    ],
)
def test_a_version_that_fails_before_the_flip_leaves_the_old_one_serving(
    bench: Bench, policy: Any, load: Any, expected: Golden | None, reason: str
) -> None:
    slot = bench.slot(policy=policy)
    slot.publish("1", bench.engine, golden(1.0))
    with pytest.raises(
        SwapError, match=f"version 2 of model 'face' was not published: .*{reason}"
    ) as caught:
        slot.publish("2", load, expected)
    assert caught.value.__cause__ is not None
    assert caught.value.hint == getattr(caught.value.__cause__, "hint", "")
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)


def test_a_failed_swap_keeps_the_record_of_the_old_version(bench: Bench) -> None:
    slot = bench.slot()
    slot.publish("1", bench.engine, None)
    answer(slot.submit(INPUTS))
    with pytest.raises(SwapError):
        slot.publish("2", broken_load, None)
    assert slot.health == Health(requests=1)


def test_a_request_that_outlives_the_drain_keeps_its_engine(bench: Bench) -> None:
    slot = bench.slot(drain_timeout_s=0.02)
    old, gate = held(bench, slot)
    slow = slot.submit(INPUTS)
    assert old.entered.wait(WAIT_S)
    slot.publish("2", lambda: bench.engine(2.0), None)
    assert not old.is_closed
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)
    gate.set()
    assert answer(slow) == ("1", 1.0)
    assert old.is_closed


def test_drop_then_load_frees_the_old_version_first(bench: Bench) -> None:
    slot = bench.slot(policy="drop-then-load")
    old = bench.engine()
    slot.publish("1", lambda: old, None)
    seen: list[bool] = []

    def load() -> FakeEngine:
        with pytest.raises(UnavailableError, match="has no engine"):
            slot.submit(INPUTS)
        seen.append(old.is_closed)
        return bench.engine(2.0)

    slot.publish("2", load, golden(2.0))
    assert seen == [True]
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)


def test_a_policy_may_be_chosen_for_one_swap(bench: Bench) -> None:
    slot = bench.slot()
    old = bench.engine()
    slot.publish("1", lambda: old, None)
    seen: list[bool] = []
    slot.publish("2", lambda: seen.append(old.is_closed) or bench.engine(), None)
    slot.publish("3", lambda: seen.append(slot.live is None) or bench.engine(), None,
                 policy="drop-then-load")  # fmt: skip
    assert seen == [False, True]


def test_drop_then_load_keeps_a_version_that_does_not_drain(bench: Bench) -> None:
    slot = bench.slot(policy="drop-then-load", drain_timeout_s=0.02)
    old, gate = held(bench, slot)
    slow = slot.submit(INPUTS)
    assert old.entered.wait(WAIT_S)
    with pytest.raises(SwapError, match=r"version 1 still ran after 0\.02 s"):
        slot.publish("2", bench.engine, None)
    gate.set()
    assert answer(slow) == ("1", 1.0)
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)


def test_drop_then_load_says_when_the_old_version_cannot_come_back(bench: Bench) -> None:
    slot = bench.slot(policy="drop-then-load")
    loads = iter([bench.engine()])
    slot.publish("1", lambda: next(loads), None)
    with pytest.raises(SwapError, match=r"altered; and what served before is gone: version 1 of"):
        slot.publish("2", broken_load, None)
    assert slot.live is None
    slot.publish("3", bench.engine, None)
    assert answer(slot.submit(INPUTS))[0] == "3"


def test_concurrent_swaps_take_turns(bench: Bench) -> None:
    slot = bench.slot()
    loading: list[str] = []

    def load(version: str) -> FakeEngine:
        loading.append(version)
        time.sleep(0.002)
        assert loading[-1] == version, "two loads at once"
        return bench.engine()

    swaps = [
        in_background(lambda v=str(i): slot.publish(v, lambda: load(v), None)) for i in range(8)
    ]
    for swap in swaps:
        swap.result(WAIT_S)
    assert slot.live is not None
    assert slot.live.version == loading[-1]
    assert sum(not engine.is_closed for engine in bench.engines) == 1


def test_no_request_is_lost_or_misnamed_over_two_hundred_swaps(bench: Bench) -> None:
    slot = bench.slot(instances=2)
    slot.publish("0", lambda: bench.engine(0.0), golden(0.0))
    is_over = threading.Event()

    def ask() -> int:
        asked = 0
        while not is_over.is_set():
            futures = [slot.submit(INPUTS) for _ in range(4)]
            for future in futures:
                version, value = answer(future)
                assert value == float(version)
            asked += len(futures)
        return asked

    clients = [in_background(ask) for _ in range(4)]
    for number in range(1, 201):
        wait_until(lambda: slot.health.requests > 0)
        factor = float(number)
        slot.publish(str(number), lambda f=factor: bench.engine(f), golden(factor))
    is_over.set()
    asked = sum(client.result(WAIT_S) for client in clients)
    assert len(bench.records) == asked
    assert {record.version for record in bench.records} >= {str(n) for n in range(200)}
    assert sum(not engine.is_closed for engine in bench.engines) == 2


def test_real_engines_swap_under_load() -> None:
    models = [tiny.tiny_model(seed).to_bytes() for seed in range(3)]
    inputs = tiny.tiny_inputs()
    slot = Slot("tiny", SwapOptions(instances=2), lambda record: None)

    def load(index: int) -> CpuEngine:
        return CpuEngine(models[index], "float", threads=1)

    expected = [load(index).infer(inputs) for index in range(3)]
    goldens = [Golden((inputs,), (outputs,)) for outputs in expected]
    slot.publish("0", lambda: load(0), goldens[0])
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            found = slot.submit(inputs).result(WAIT_S)
            wanted = expected[int(found.version) % 3]["scores"]
            assert np.array_equal(found.outputs["scores"], wanted)

    clients = [in_background(ask) for _ in range(3)]
    for number in range(1, 21):
        slot.publish(str(number), lambda i=number % 3: load(i), goldens[number % 3])
    is_over.set()
    for client in clients:
        client.result(WAIT_S)
    slot.close()
