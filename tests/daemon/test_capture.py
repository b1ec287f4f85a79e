"""Which requests are captured: not too many, a copy of each, and never at the request's expense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeq.daemon import capture as module
from edgeq.daemon.capture import BUSY_GAP_S, IDLE_S, LEAST_GAP_S, QUEUE_SIZE, Capture
from edgeq.swap import Inference

ANSWER = Inference({"y": np.zeros((1, 2), "f4")}, "1", "cpu-int8")


class Model:
    """What the capture asks of a deployment before the capture thread has it."""

    def __init__(self, *, is_int8: bool) -> None:
        self.name = "model"
        self.noted_engine = "cpu-int8" if is_int8 else "float"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the capture's clock."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def captured(capture: Capture) -> int:
    return capture._queue.qsize()


def offered(gaps_s: float, seconds: float, move: Callable[[float], None], model: Model) -> int:
    """Offer requests with these gaps for so long; return how many were captured."""
    capture = Capture(lambda _: None)
    count = 0
    for _ in range(round(seconds / gaps_s)):
        before = captured(capture)
        capture.offer(model, {"x": np.zeros(3, "f4")}, ANSWER, 1.0)
        if captured(capture) > before:
            count += 1
            capture._queue.get()
        move(gaps_s)
    return count


@pytest.mark.parametrize(
    ("gap_s", "is_int8", "least_gap_s"),
    [
        (0.001, False, LEAST_GAP_S),  # it waits for its first samples
        (0.001, True, BUSY_GAP_S),  # a rush: as few as its p99 bears
        (0.033, True, 0.033),  # a camera: every frame
        (IDLE_S + 0.002, True, 2 * (IDLE_S + 0.002)),
    ],
)
def test_captures_keep_the_distance_that_the_traffic_asks_for(
    clock, gap_s: float, is_int8: bool, least_gap_s: float
):
    count = offered(gap_s, 2.0, clock, Model(is_int8=is_int8))
    assert count == pytest.approx(2.0 / least_gap_s, rel=0.06)


def test_each_model_has_a_rate_of_its_own(clock):
    capture, first, second = Capture(lambda _: None), Model(is_int8=True), Model(is_int8=True)
    second.name = "other"
    for model in (first, second, first, second):
        capture.offer(model, {"x": np.zeros(3, "f4")}, ANSWER, 1.0)
    assert captured(capture) == 2


def test_a_copy_is_captured_for_the_body_is_reused(clock):
    capture, body = Capture(lambda _: None), np.ones(3, "f4")
    capture.offer(Model(is_int8=False), {"x": body}, ANSWER, 1.0)
    body[:] = 7
    assert capture._queue.get().inputs["x"].tolist() == [1, 1, 1]


def test_a_full_queue_and_a_ratio_of_nothing_drop_the_capture(clock):
    capture, model = Capture(lambda _: None), Model(is_int8=False)
    for _ in range(QUEUE_SIZE + 5):
        clock(1.0)
        capture.offer(model, {"x": np.zeros(3, "f4")}, ANSWER, 0.0)
    assert captured(capture) == 0
    for _ in range(QUEUE_SIZE + 5):
        clock(1.0)
        capture.offer(model, {"x": np.zeros(3, "f4")}, ANSWER, 1.0)
    assert captured(capture) == QUEUE_SIZE
