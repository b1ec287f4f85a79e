"""The previous version answers a share of the requests again: how far apart the two are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgeq.errors import EngineError
from edgeq.swap import Shadow, ShadowOptions, ShadowReport, shadow_verdict
from edgeq.swap import shadow as module
from tests.swap.fakes import INPUTS, FakeEngine

WAIT_S = 10.0
FIRST = np.array([[0.9, 0.1]], "f4")
SECOND = np.array([[0.1, 0.9]], "f4")
Started = Callable[..., Shadow]


@pytest.fixture(autouse=True)
def _no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_GAP_S", 0.0)
    monkeypatch.setattr(module, "DUTY", 1.0)


@pytest.fixture
def started() -> Iterator[Started]:
    made: list[Shadow] = []

    def start(engine: FakeEngine, judge: FakeEngine | None = None, **options: object) -> Shadow:
        load_judge = (lambda: judge) if judge else None
        made.append(Shadow("2", lambda: engine, load_judge, ShadowOptions(**options)))
        made[-1].start()
        return made[-1]

    yield start
    for shadow in made:
        shadow.close()


def engine(answer: np.ndarray) -> FakeEngine:
    made = FakeEngine()
    made.answer = {"y": answer}
    return made


def compare(shadow: Shadow, answer: np.ndarray, count: int) -> ShadowReport:
    """Offer an answer of the new version `count` times, each after the last was compared."""
    deadline = time.monotonic() + WAIT_S
    for wanted in range(shadow.report.compared + 1, shadow.report.compared + count + 1):
        while shadow.report.compared < wanted:
            assert time.monotonic() < deadline, shadow.report
            shadow.offer(INPUTS, {"y": answer}, "2")
            time.sleep(0.001)
    return shadow.report


def test_equal_answers_agree(started: Started) -> None:
    shadow = started(engine(FIRST))
    report = compare(shadow, FIRST, 30)
    assert report.compared >= 30
    assert (report.disagreement, report.output, report.judged) == (0.0, "y", 0)
    assert report.latency.requests >= 30
    assert shadow_verdict(report) == ""


def test_other_choices_are_the_reason_with_its_figures(started: Started) -> None:
    report = compare(started(engine(FIRST), max_other_choices=0.3), SECOND, 40)
    assert report.disagreement == 1.0
    assert 0.9 < report.surely < 1.0
    verdict = shadow_verdict(report)
    assert verdict.startswith(f"output 'y' disagrees by 100.0% over {report.compared} requests")
    assert verdict.endswith("probation allows 30.0%")


def test_nothing_is_said_before_enough_were_compared(started: Started) -> None:
    assert shadow_verdict(compare(started(engine(FIRST)), SECOND, 5)) == ""


def test_an_output_that_chooses_nothing_is_judged_by_its_cosine(started: Started) -> None:
    report = compare(started(engine(np.array([[3.0, 4.0]], "f4"))), np.array([[4.0, 3.0]]), 30)
    assert report.disagreement == pytest.approx(0.04, abs=1e-6)
    assert shadow_verdict(report) == ""
    report = compare(started(engine(np.array([[3.0, 4.0]], "f4"))), np.array([[4.0, -3.0]]), 30)
    assert report.disagreement == pytest.approx(1.0)
    assert "100.0%" in shadow_verdict(report)


def test_another_shape_disagrees_wholly(started: Started) -> None:
    report = compare(started(engine(FIRST)), np.array([[0.2, 0.3, 0.5]], "f4"), 20)
    assert report.disagreement == 1.0
    assert shadow_verdict(report)


def test_where_two_int8_versions_differ_the_float_model_is_asked(started: Started) -> None:
    right = compare(started(engine(FIRST), engine(SECOND)), SECOND, 30)
    assert (right.disagreement, right.judged) == (0.0, right.compared)
    wrong = compare(started(engine(FIRST), engine(FIRST)), SECOND, 30)
    assert wrong.disagreement == 1.0


def test_the_float_model_is_loaded_only_where_it_is_needed(started: Started) -> None:
    judge = engine(FIRST)
    assert compare(started(engine(FIRST), judge), FIRST, 10).judged == 0
    assert judge.runs == 0


def test_answers_of_another_version_are_left_out(started: Started) -> None:
    shadow = started(previous := engine(FIRST))
    shadow.offer(INPUTS, {"y": SECOND}, "1")
    compare(shadow, FIRST, 1)
    assert shadow.report.disagreement == 0.0
    assert previous.runs >= 2  # one was the warm-up


def test_the_queue_is_bounded_and_an_offer_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = engine(FIRST)
    shadow = Shadow("2", lambda: previous, None, ShadowOptions())  # nobody takes anything out
    for _ in range(100):
        shadow.offer(INPUTS, {"y": FIRST}, "2")
    assert shadow._queue.qsize() == module.QUEUE_SIZE
    shadow.start()
    shadow.close()
    assert previous.runs <= module.QUEUE_SIZE + 1


def test_requests_are_taken_no_more_often_than_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_GAP_S", 1000.0)
    shadow = Shadow("2", lambda: engine(FIRST), None, ShadowOptions())
    for _ in range(5):
        shadow.offer(INPUTS, {"y": FIRST}, "2")
    assert shadow._queue.qsize() == 1


def test_a_slow_engine_works_a_share_of_the_time_only(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DUTY", 1e-6)
    shadow = started(engine(FIRST))
    compare(shadow, FIRST, 1)
    deadline = time.monotonic() + WAIT_S
    while shadow._next < time.monotonic() + 5:  # the rest of the time that the work took a part of
        assert time.monotonic() < deadline


def test_a_ratio_of_zero_takes_nothing() -> None:
    shadow = Shadow("2", lambda: engine(FIRST), None, ShadowOptions(ratio=0.0))
    shadow.offer(INPUTS, {"y": FIRST}, "2")
    assert shadow._queue.empty()


def test_what_is_offered_is_a_copy(started: Started) -> None:
    shadow = Shadow("2", lambda: engine(FIRST), None, ShadowOptions())
    body = {"x": np.ones((1, 2), "f4")}
    shadow.offer(body, {"y": FIRST}, "2")
    body["x"][:] = 7.0
    item = shadow._queue.get()
    assert item is not None
    assert item[0]["x"].tolist() == [[1.0, 1.0]]


def test_a_previous_version_that_fails_ends_the_comparison_alone(started: Started) -> None:
    broken = engine(FIRST)
    broken.fail = lambda: EngineError("the device is gone")
    shadow = started(broken)
    deadline = time.monotonic() + WAIT_S
    while not shadow.report.problem:
        assert time.monotonic() < deadline
        shadow.offer(INPUTS, {"y": FIRST}, "2")
        time.sleep(0.001)
    assert shadow.report.problem == "the previous version cannot answer: the device is gone"
    assert shadow_verdict(shadow.report) == ""
    shadow.offer(INPUTS, {"y": FIRST}, "2")
    shadow.close()
    assert broken.is_closed


def test_closing_frees_both_engines(started: Started) -> None:
    previous, judge = engine(FIRST), engine(SECOND)
    shadow = started(previous, judge)
    compare(shadow, SECOND, 1)
    shadow.close()
    assert previous.is_closed
    assert judge.is_closed
    assert not shadow._thread.is_alive()
