"""When a drift may be answered, after what became of the answers before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.daemon.episodes import DAY_S, Captures, Episode, History, has_changed

NOW = 1_795_000_000.0


@dataclass(frozen=True)
class Stream:
    """What of a TensorDrift is looked at."""

    tensor: str
    value: float
    threshold: float = 0.1


@dataclass(frozen=True)
class State:
    """What of a DriftState is looked at."""

    tensors: tuple[Stream, ...]


FAR = State((Stream("image", 2.0), Stream("image/contrast", 0.01)))


def why_not(history: History, now: float = NOW, state: Any = FAR, samples: int = 64) -> str:
    limits = {"minimum_interval_s": 3600.0, "daily_budget": 3}
    return history.why_not(state, samples, now, **limits)


def started(*times: float) -> History:
    history = History()
    for at in times:
        history = history.after_start(at, FAR, samples=64, by_drift=True)
    return history


def test_the_first_drift_is_answered_at_once():
    assert why_not(History()) == ""


def test_the_next_waits_for_the_interval():
    assert why_not(started(NOW - 60)) == "the last one was 60 s ago; the next in 59 min"
    assert why_not(started(NOW - 3600)) == ""


def test_each_refusal_doubles_the_interval():
    history = started(NOW - 7000).after_refusal()
    said = "the last one was refused 117 min ago; the next in 4 min"
    assert why_not(history, samples=200) == said
    assert why_not(history, NOW + 300, samples=200) == ""
    often = replace(history, refusals=50, latest=NOW - 63 * 3600)
    assert "the next in 60 min" in why_not(often, samples=200)  # 64 times the interval at most


def test_a_person_s_recalibration_sets_the_clock_and_costs_no_budget():
    history = History().after_start(NOW - 10, None, samples=64, by_drift=False)
    assert history.started == ()
    assert "the next in 60 min" in why_not(history)


def test_the_budget_is_of_the_last_24_hours():
    history = started(NOW - 80_000, NOW - 50_000, NOW - 20_000)
    assert why_not(history) == "3 in the last 24 h are the budget; the next in 107 min"
    assert why_not(history, NOW + 6500) == ""


@given(st.lists(st.floats(NOW - 3 * DAY_S, NOW + 3 * DAY_S), max_size=12))
def test_no_more_than_the_budget_start_within_a_day_whatever_the_clock_did(times):
    history = History(started=tuple(sorted(times)), latest=0.0)
    recent = [at for at in times if NOW - DAY_S < at <= NOW]
    assert (why_not(history) == "") == (len(recent) < 3)


def test_a_clock_that_was_ahead_blocks_nothing():
    assert why_not(started(NOW + 30 * DAY_S)) == ""


def test_what_was_refused_is_tried_again_with_other_inputs_or_twice_the_samples():
    history = started(NOW - 10_000).after_refusal()
    assert "as they were then; the next with 128 samples" in why_not(history)
    assert why_not(history, samples=128) == ""
    other = State((Stream("image", 3.5), Stream("image/contrast", 0.01)))
    assert why_not(history, state=other) == ""
    assert why_not(history.after_return()) == ""  # it passed, and came again


@pytest.mark.parametrize(
    ("value", "changed"), [(2.0, False), (2.9, False), (3.1, True), (1.1, False), (0.9, True)]
)
def test_a_distance_has_changed_by_more_than_half_of_it(value, changed):
    assert has_changed({"image": 2.0}, State((Stream("image", value),))) == changed


def test_a_stream_below_its_threshold_is_no_change():
    near = Stream("image/contrast", 0.09)
    assert not has_changed({"image": 2.0}, State((Stream("image", 2.0), near)))
    assert has_changed({"image": 2.0}, State((replace(near, value=0.2),)))


def test_a_success_starts_anew():
    history = started(NOW - 10_000).after_refusal().after_refusal()
    history = replace(history, episode=Episode(NOW, "s", "before"))
    done = history.after_success()
    assert (done.episode, done.refusals, done.tried) == (None, 0, {})
    assert done.started == history.started


@pytest.mark.parametrize(
    "note", [None, {}, {"episode": 3}, {"started": "x"}, {"episode": {"a": 1}}]
)
def test_a_note_that_cannot_be_read_is_no_history(note):
    assert History.from_note(note) == History()


def test_a_note_brings_everything_back():
    history = replace(started(NOW - 5).after_refusal(), episode=Episode(NOW, "x", "before"))
    assert History.from_note(history.as_note()) == history


def test_the_frames_of_a_window_are_dated_by_the_mark_before_them():
    captures = Captures()
    assert captures.since(500, 100) == 0.0
    for second in range(100):
        captures.mark(float(second), 10 * second, 100)
    assert captures.since(1000, 100) == 90.0
    assert captures.since(1000, 105) == 89.0
    captures.mark(200.0, 0, 100)  # pruned: the count began anew
    assert captures.since(50, 50) == 200.0
