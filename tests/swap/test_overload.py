"""More requests than there are places for: the urgent go first, nobody holds a place in vain."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from edgeq.errors import DeadlineError, SwapError, UnavailableError
from edgeq.swap import Health, Slot
from tests.swap.bench import WAIT_S, Bench, answer, held, in_background, wait_until
from tests.swap.fakes import INPUTS, FakeEngine


def busy(bench: Bench, **options: object) -> tuple[Slot, threading.Event]:
    """Return a slot whose one engine is held by a request, and what lets it go."""
    slot = bench.slot(**options)
    engine, gate = held(bench, slot)
    slot.submit(INPUTS)
    assert engine.entered.wait(WAIT_S)
    return slot, gate


def test_the_urgent_are_answered_first_and_equals_in_turn(bench: Bench) -> None:
    slot, gate = busy(bench)
    order: list[str] = []
    names = [("patient", 99), ("first", 0), ("second", 0), ("next", 2), ("urgent", 1)]
    futures = []
    for name, priority in names:
        future = slot.submit(INPUTS, priority=priority)
        future.add_done_callback(lambda _, name=name: order.append(name))
        futures.append(future)
    gate.set()
    for future in futures:
        answer(future)
    wait_until(lambda: len(order) == 5)
    assert order == ["urgent", "next", "first", "second", "patient"]


def test_who_waited_too_long_gives_the_place_to_the_next_one(bench: Bench) -> None:
    slot, gate = busy(bench, queue_size=1)
    late = slot.submit(INPUTS, timeout_s=0.01)
    with pytest.raises(UnavailableError, match="2 requests waiting or running; it takes 2"):
        slot.submit(INPUTS)
    time.sleep(0.02)
    in_time = slot.submit(INPUTS)
    assert late.done(), "the engine is still held: nobody but the next request can tell"
    with pytest.raises(DeadlineError, match=r"waited \d\.\d\d\d s for 'face'"):
        late.result(WAIT_S)
    gate.set()
    assert answer(in_time) == ("1", 1.0)
    assert slot.health == Health(requests=2)


def test_any_request_ends_the_wait_of_those_who_are_late(bench: Bench) -> None:
    slot, gate = busy(bench)
    late = [slot.submit(INPUTS, timeout_s=0.01) for _ in range(3)]
    patient = slot.submit(INPUTS, timeout_s=60)
    time.sleep(0.02)
    last = slot.submit(INPUTS)
    assert [isinstance(future.exception(WAIT_S), DeadlineError) for future in late] == [True] * 3
    assert slot.queue_length == 2
    gate.set()
    assert [answer(future)[0] for future in (patient, last)] == ["1", "1"]


def test_who_cancelled_gives_the_place_to_the_next_one(bench: Bench) -> None:
    slot, gate = busy(bench, queue_size=1)
    cancelled = slot.submit(INPUTS)
    assert cancelled.cancel()
    in_time = slot.submit(INPUTS)
    gate.set()
    assert answer(in_time) == ("1", 1.0)
    assert slot.health == Health(requests=2)


def test_an_old_version_that_hangs_keeps_no_place_for_the_late(bench: Bench) -> None:
    slot, gate = busy(bench, queue_size=1, drain_timeout_s=0.02)
    late = slot.submit(INPUTS, timeout_s=0.01)
    slot.publish("2", lambda: bench.engine(2.0), None)
    assert answer(slot.submit(INPUTS)) == ("2", 2.0)
    assert isinstance(late.exception(WAIT_S), DeadlineError)
    gate.set()
    wait_until(lambda: bench.engines[0].is_closed)


def test_a_refusal_says_when_to_come_again(bench: Bench) -> None:
    slot, gate = busy(bench, queue_size=3)
    assert slot._live is not None
    for _ in range(3):
        slot.submit(INPUTS)
    for typical_s, retry_after_s in ((0.001, 1), (0.6, 3), (2.0, 8), (float("inf"), 1)):
        slot._live.pool.typical_s = typical_s
        with pytest.raises(UnavailableError) as caught:
            slot.submit(INPUTS)
        assert caught.value.retry_after_s == retry_after_s
        assert caught.value.hint
    gate.set()


def test_who_would_wait_too_long_is_refused_at_once(bench: Bench) -> None:
    slot, gate = busy(bench)
    assert slot._live is not None
    slot._live.pool.typical_s = 0.1
    patient = [slot.submit(INPUTS, timeout_s=60) for _ in range(3)]
    with pytest.raises(
        UnavailableError, match=r"would answer in 0\.500 s, .* has 0\.6 s"
    ) as caught:
        slot.submit(INPUTS, timeout_s=0.6)
    assert caught.value.retry_after_s == 1
    urgent = slot.submit(INPUTS, timeout_s=0.6, priority=1)  # only the one that runs is before it
    gate.set()
    assert [answer(future)[0] for future in (*patient, urgent)] == ["1"] * 4


def test_a_deadline_below_what_an_inference_takes_is_tried_where_nobody_is_before_it(
    bench: Bench,
) -> None:
    slot = bench.slot(inline_below_s=0.0)
    slot.publish("1", bench.engine, None)
    assert slot._live is not None
    slot._live.pool.typical_s = 30.0  # one that was slow for another reason must not shut the door
    assert answer(slot.submit(INPUTS, timeout_s=5)) == ("1", 1.0)


def test_ten_times_too_many_requests_are_answered_or_refused_at_once(bench: Bench) -> None:
    slot = bench.slot(queue_size=4)
    slot.publish("1", bench.engine, None)
    asked, refused = 2000, 0
    futures = []
    for _ in range(asked):
        try:
            futures.append(slot.submit(INPUTS))
        except UnavailableError:
            refused += 1
        assert slot._places.taken <= 5
    assert all(answer(future) == ("1", 1.0) for future in futures)
    assert len(futures) + refused == asked
    assert slot.health.requests == len(futures)


def test_what_waits_when_the_slot_closes_is_answered_or_told(bench: Bench) -> None:
    slot, gate = busy(bench, drain_timeout_s=0.02)
    waiting = [slot.submit(INPUTS, priority=level) for level in (1, 0)]
    in_background(slot.close).result(WAIT_S)
    for future in waiting:
        with pytest.raises(UnavailableError, match="was unloaded"):
            future.result(WAIT_S)
    assert slot.queue_length == 0
    gate.set()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "infer-face"]


def test_every_version_takes_its_threads_with_it(bench: Bench) -> None:
    before = len(workers())  # of other tests' engines that hang
    slot = bench.slot(instances=3)
    for version in range(5):
        slot.publish(str(version), bench.engine, None)
        assert len(workers()) == before + 3
    slot.close()
    assert len(workers()) == before


def test_swaps_under_load_leave_no_thread_and_no_reference_behind(bench: Bench) -> None:
    before = len(workers())
    slot = bench.slot(instances=2, inline_below_s=10.0, queue_size=4)
    slot.publish("0", bench.engine, None)
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            with contextlib.suppress(UnavailableError):  # the queue is shorter than the clients
                answer(slot.submit(INPUTS))

    clients = [in_background(ask) for _ in range(8)]
    for version in range(1, 41):
        slot.publish(str(version), bench.engine, None)
    is_over.set()
    for client in clients:
        client.result(WAIT_S)
    assert sum(not engine.is_closed for engine in bench.engines) == 2
    assert len(workers()) == before + 2
    assert slot._undrained == [slot._live]
    assert slot._places.taken == 0


def test_a_version_without_threads_is_refused_and_frees_its_engines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = bench.slot(instances=2)
    slot.publish("1", bench.engine, None)
    start, started = threading.Thread.start, []

    def fail(thread: threading.Thread) -> None:
        if thread.name != "infer-face" or not started:
            started.append(thread)
            start(thread)
        else:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(SwapError, match="can't start new thread"):
        slot.publish("2", FakeEngine, None)
    monkeypatch.undo()
    assert answer(slot.submit(INPUTS)) == ("1", 1.0)
