from __future__ import annotations

import threading

import pytest

from edgeq.daemon.heartbeat import Answer, Heartbeat
from edgeq.daemon.stacks import stacks


class Loop:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[Answer] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def turn(self) -> None:
        while self.asked:
            self.asked.pop()()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def heartbeat(loop: Loop) -> Heartbeat:
    return Heartbeat(loop.asked.append, loop.wake, 5.0)


def test_each_answer_is_told_once(heartbeat: Heartbeat, loop: Loop) -> None:
    assert not heartbeat.look(0.0)
    loop.turn()
    assert loop.woken == 1
    assert [heartbeat.look(0.1), heartbeat.look(0.2)] == [True, False]


def test_it_asks_no_more_often_than_it_should(heartbeat: Heartbeat, loop: Loop) -> None:
    for tenth in range(100):
        heartbeat.look(tenth / 10)
        loop.turn()
    assert loop.woken == 2


def test_a_loop_that_does_not_turn_is_late_until_it_does(heartbeat: Heartbeat, loop: Loop) -> None:
    heartbeat.look(0.0)
    assert not any(heartbeat.look(float(second)) for second in range(1, 30))
    assert heartbeat.late_s(29.0) == 29.0
    assert len(loop.asked) == 1  # it is not asked again meanwhile
    loop.turn()
    assert heartbeat.late_s(29.5) == 0.0
    assert heartbeat.look(30.0)


def test_stacks_say_where_each_thread_is() -> None:
    inside, gate = threading.Event(), threading.Event()

    def wait_here() -> None:
        inside.set()
        gate.wait(10)

    thread = threading.Thread(target=wait_here, name="waiter")
    thread.start()
    assert inside.wait(10)
    found = stacks()
    gate.set()
    thread.join()
    assert "wait_here test_heartbeat.py:" in found["waiter"]
    assert found["waiter"].index("wait_here") < found["waiter"].index("run threading.py")
