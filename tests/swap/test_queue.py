"""The most urgent request goes first, then the one that came first."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.swap.queue import RequestQueue
from edgeq.swap.requests import DEFAULT_PRIORITY, Waiting

LEVELS = st.lists(st.integers(0, 2**64 - 1), max_size=20)


def request(shape: tuple[int, ...] = (1, 2), deadline: float = float("inf")) -> Waiting:
    return Waiting({"x": np.zeros(shape, "f4")}, 0.0, deadline, Future())


def filled(levels: list[int]) -> tuple[RequestQueue, list[Waiting]]:
    queue, requests = RequestQueue(), [request() for _ in levels]
    for level, one in zip(levels, requests, strict=True):
        queue.push(one, level)
    return queue, requests


@given(LEVELS)
def test_lower_numbers_go_first_and_equals_in_the_order_of_arrival(levels: list[int]) -> None:
    queue, requests = filled(levels)
    ranks = [level or DEFAULT_PRIORITY for level in levels]
    expected = sorted(range(len(levels)), key=lambda number: (ranks[number], number))
    assert [queue.pop() for _ in levels] == [requests[number] for number in expected]
    assert len(queue) == 0


def test_who_names_no_priority_comes_between_the_urgent_and_the_patient() -> None:
    queue, (patient, default, urgent) = filled([DEFAULT_PRIORITY + 1, 0, 1])
    assert [queue.pop() for _ in range(3)] == [urgent, default, patient]


@given(LEVELS, st.sets(st.integers(0, 19)))
def test_what_is_left_keeps_its_order(levels: list[int], numbers: set[int]) -> None:
    queue, requests = filled(levels)
    removed = [one for number, one in enumerate(requests) if number in numbers]
    assert set(queue.remove(lambda one: one in removed)) == set(removed)
    whole, order = filled(levels)
    kept = [requests[order.index(whole.pop())] for _ in levels]
    assert [queue.pop() for _ in range(len(queue))] == [one for one in kept if one not in removed]


def test_only_requests_of_the_same_shapes_are_taken_together() -> None:
    queue = RequestQueue()
    first, wide, second, third = request(), request((1, 3)), request(), request()
    other = Waiting({"z": np.zeros((1, 2))}, 0.0, 0.0, Future())
    for one in (wide, other, second, third):
        queue.push(one, 0)
    assert queue.pop_alike(first, 3, 4) == []
    assert queue.pop_alike(first, 1, 1) == [second]
    assert queue.pop_alike(first, 1, 5) == [third]
    assert [queue.pop(), queue.pop()] == [wide, other]


def test_the_soonest_deadline_is_known() -> None:
    queue = RequestQueue()
    assert queue.soonest_deadline == float("inf")
    for deadline in (7.0, 3.0, 5.0):
        queue.push(request(deadline=deadline), 0)
    assert queue.soonest_deadline == 3.0
