"""Quick models share what time a turn of the event loop has; the next turn has all of it."""

from __future__ import annotations

import asyncio

from edgeq.swap import Slot, SwapOptions, TurnBudget
from tests.swap.bench import WAIT_S, Bench
from tests.swap.fakes import INPUTS, FakeEngine


def test_a_turn_ends_and_the_next_one_has_all_its_time() -> None:
    async def spend() -> list[bool]:
        budget, left = TurnBudget(0.5), []
        for _ in range(3):
            budget.spend(0.3)
            left.append(budget.is_left)
            budget.spend(0.3)
            left.append(budget.is_left)
            await asyncio.sleep(0)
        return left

    assert asyncio.run(spend()) == [True, False] * 3


def test_a_loop_that_was_stopped_leaves_no_debt_to_the_next_one() -> None:
    budget = TurnBudget(0.5)

    async def spend(seconds: float) -> bool:
        budget.spend(seconds)
        return budget.is_left

    assert asyncio.run(spend(0.6)) is False
    assert asyncio.run(spend(0.1)) is True


def test_a_thread_without_a_loop_spends_nothing() -> None:
    budget = TurnBudget(0.5)
    budget.spend(9.0)
    assert budget.is_left


def test_who_asks_first_in_a_turn_is_answered_at_once_and_the_others_by_workers(
    bench: Bench,
) -> None:
    budget = TurnBudget(1e-9)  # one inference is more
    slots = [
        Slot(name, SwapOptions(inline_below_s=10.0), lambda record: None, budget)
        for name in ("face", "hand")
    ]
    for slot in slots:
        slot.publish("1", FakeEngine, None)

    async def turns() -> list[list[bool]]:
        found = []
        for _ in range(2):
            futures = [slot.submit(INPUTS) for slot in slots for _ in range(2)]
            found.append([future.done() for future in futures[:1]])
            ran_here = [budget.is_left]
            await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
            found.append(ran_here)
        return found

    assert asyncio.run(asyncio.wait_for(turns(), WAIT_S)) == [[True], [False]] * 2
    for slot in slots:
        slot.close()
