"""An engine that never comes back costs its own requests, and nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from edgeq.errors import DeadlineError, SwapError, UnavailableError
from edgeq.swap import Hang, HangWatch, Slot
from edgeq.swap.hangs import LONGEST_GAP_S, UNKNOWN_TIMES, USUAL_TIMES, usual_bound_s, within
from tests.swap.bench import WAIT_S, Bench, answer, golden, held, in_background, wait_until
from tests.swap.fakes import INPUTS, FakeEngine

BOUND_S = 10.0


class Looks:
    """A watch whose clock the test turns."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.watch = HangWatch()
        self.now = time.monotonic()

    def after(self, seconds: float, step: float = 1.0) -> list[Hang]:
        found: list[Hang] = []
        for _ in range(round(seconds / step)):
            self.now += step
            found = self.watch.look([self.slot], self.now)
        return found

    def give_up(self) -> Hang:
        wait_until(lambda: bool(self.slot.runs()))
        (hang,) = self.after(BOUND_S + 2)
        assert self.watch.give_up(hang)
        return hang


def test_a_hung_engine_fails_its_request_and_those_behind_it(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    inside, behind = slot.submit(INPUTS), slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    looks = Looks(slot)
    assert looks.after(BOUND_S - 2) == []
    hang = looks.give_up()
    assert (hang.name, hang.version, hang.engine) == ("face", "1", "cpu-int8")
    with pytest.raises(DeadlineError, match="has not answered for 20 s"):
        inside.result(WAIT_S)
    with pytest.raises(UnavailableError, match="another engine"):
        behind.result(WAIT_S)
    assert slot.live is None
    with pytest.raises(UnavailableError):
        slot.submit(INPUTS)
    assert looks.watch.threads_left == 1
    gate.set()
    wait_until(lambda: looks.watch.threads_left == 0)


def test_the_next_version_takes_over_while_the_thread_is_still_inside(bench: Bench) -> None:
    slot = bench.slot()
    held(bench, slot)
    slot.submit(INPUTS)
    looks = Looks(slot)
    looks.give_up()
    seconds = slot.publish("2", lambda: bench.engine(2.0), golden(2.0))
    assert seconds < WAIT_S
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)
    assert looks.after(20) == []


def test_an_engine_that_comes_back_late_is_closed_and_answers_nobody(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    future = slot.submit(INPUTS)
    Looks(slot).give_up()
    slot.publish("2", lambda: bench.engine(2.0), golden(2.0))
    gate.set()
    wait_until(lambda: engine.is_closed)
    assert isinstance(future.exception(WAIT_S), DeadlineError)
    assert [record.version for record in bench.records] == []
    assert slot.health.requests == 0


def test_of_two_engines_the_other_one_goes_on(bench: Bench) -> None:
    slot = bench.slot(instances=2)
    gate = bench.gate()
    hung = bench.engine(gate=gate)
    engines = iter([bench.engine(), hung])
    gate.set()
    slot.publish("1", lambda: next(engines), None)
    gate.clear()
    hung.entered.clear()
    inside = slot.submit(INPUTS)  # the engine that was loaded last is the first to run
    assert hung.entered.wait(WAIT_S)
    looks = Looks(slot)
    looks.give_up()
    assert isinstance(inside.exception(WAIT_S), DeadlineError)
    for _ in range(3):
        assert answer(slot.submit(INPUTS)) == ("1", 1.0)


def test_an_old_version_that_hangs_does_not_keep_the_new_one_waiting(bench: Bench) -> None:
    slot = bench.slot(drain_timeout_s=WAIT_S)
    engine, _ = held(bench, slot)
    slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    publishing = in_background(lambda: slot.publish("2", lambda: bench.engine(2.0), None))
    wait_until(lambda: slot.live is not None and slot.live.version == "2")
    Looks(slot).give_up()
    assert publishing.result(WAIT_S) < WAIT_S
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)


def test_a_run_on_the_callers_thread_is_seen_but_not_given_up(bench: Bench) -> None:
    slot = bench.slot(inline_below_s=WAIT_S)
    engine, gate = held(bench, slot, policy="load-then-drop")
    caller = in_background(lambda: slot.submit(INPUTS))
    assert engine.entered.wait(WAIT_S)
    looks = Looks(slot)
    (hang,) = looks.after(BOUND_S + 2)
    assert hang.is_inline
    assert not looks.watch.give_up(hang)
    gate.set()
    assert answer(caller.result(WAIT_S)) == ("1", 1.0)
    assert looks.after(20) == []


def test_time_in_which_the_process_did_not_run_does_not_count(bench: Bench) -> None:
    slot = bench.slot()
    engine, _ = held(bench, slot)
    slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    looks = Looks(slot)
    assert looks.after(3600, step=3600) == []  # stopped for an hour: one look
    assert looks.after(BOUND_S - LONGEST_GAP_S - 1) == []
    assert len(looks.after(3)) == 1
    looks.give_up()


def test_a_run_that_ended_meanwhile_is_not_given_up(bench: Bench) -> None:
    slot = bench.slot()
    engine, gate = held(bench, slot)
    future = slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    looks = Looks(slot)
    (hang,) = looks.after(BOUND_S + 2)
    gate.set()
    assert answer(future) == ("1", 1.0)
    wait_until(lambda: slot.runs() == [])
    assert not looks.watch.give_up(hang)
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)


def test_a_slot_with_a_hung_engine_can_be_closed(bench: Bench) -> None:
    slot = bench.slot(drain_timeout_s=0.05)
    held(bench, slot)
    slot.submit(INPUTS)
    Looks(slot).give_up()
    slot.close()
    assert slot.live is None


def test_slow_models_and_batches_have_more_time() -> None:
    assert usual_bound_s(BOUND_S, 0.001, 1) == BOUND_S
    assert usual_bound_s(BOUND_S, 2.0, 1) == USUAL_TIMES * 2.0
    assert usual_bound_s(BOUND_S, 2.0, 4) == USUAL_TIMES * 8.0
    assert usual_bound_s(BOUND_S, float("inf"), 1) == UNKNOWN_TIMES * BOUND_S


def test_an_engine_that_hangs_while_it_is_loaded_is_not_published(bench: Bench) -> None:
    slot = bench.slot(load_timeout_s=0.05)
    gate = bench.gate()
    engine = FakeEngine(gate=gate)
    bench.engines.append(engine)
    with pytest.raises(SwapError, match="was not done after"):
        slot.publish("1", lambda: engine, None)
    assert slot.live is None
    gate.set()
    wait_until(lambda: engine.is_closed)  # by the thread that was left to itself


def test_what_is_done_in_time_is_returned_or_raised() -> None:
    assert within(WAIT_S, lambda: 7, print, "work") == 7
    with pytest.raises(ZeroDivisionError):
        within(WAIT_S, lambda: 1 // 0, print, "work")


def test_what_raises_late_is_dropped() -> None:
    gate, late = threading.Event(), []

    def work() -> int:
        assert gate.wait(WAIT_S)
        return 1 // 0

    with pytest.raises(TimeoutError):
        within(0.01, work, late.append, "work")
    gate.set()
    wait_until(lambda: all(thread.name != "work" for thread in threading.enumerate()))
    assert late == []
