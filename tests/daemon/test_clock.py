from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgeq.daemon.clock import JUMP_S, ClockWatch, jump_in_words
from edgeq.daemon.episodes import Captures, Episode, History
from edgeq.samples.naming import new_stratum
from edgeq.samples.store import SampleStore

HOUR_S = 3600.0


@dataclass
class Clocks:
    """What the two clocks say."""

    wall: float = 1e9
    steady: float = 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.mark.parametrize("jump", [5 * HOUR_S, -5 * HOUR_S, 1.7e9, -1e9])
def test_a_clock_that_was_set_is_seen_once_and_by_how_much(jump):
    clocks = Clocks()
    watch = ClockWatch(lambda: clocks.wall, lambda: clocks.steady)
    clocks.pass_by(10)
    assert watch.look() == 0.0
    clocks.pass_by(10)
    clocks.wall += jump
    assert watch.look() == pytest.approx(jump)
    clocks.pass_by(10)
    assert watch.look() == 0.0


def test_a_time_server_s_corrections_are_no_jump():
    clocks = Clocks()
    watch = ClockWatch(lambda: clocks.wall, lambda: clocks.steady)
    for _ in range(1000):
        clocks.pass_by(1)
        clocks.wall += 0.1
        assert watch.look() == 0.0


def test_this_box_s_own_clocks_do_not_jump():
    watch = ClockWatch()
    time.sleep(0.01)
    assert watch.look() == 0.0


def test_a_jump_is_told_by_what_the_clock_said_before_and_after():
    said = "the clock was set from 1970-01-01T00:00:30Z to 2026-11-23T17:00:00Z"
    assert jump_in_words(1795453170.0, 1795453200.0) == said
    assert "from 1970-01-01T00:00:00Z" in jump_in_words(JUMP_S, 0.0)


# ---- what was written down with the time of day


def test_the_interval_between_recalibrations_is_as_long_as_before_the_clock_was_set():
    clocks = Clocks()
    history = History(latest=clocks.wall, started=(clocks.wall,))
    for jump in (10 * HOUR_S, -20 * HOUR_S, 1e9):
        clocks.pass_by(600)
        clocks.wall += jump
        history = history.shifted(jump)
        assert clocks.wall - history.latest == pytest.approx(clocks.steady - 100.0)
        assert clocks.wall - history.started[0] == pytest.approx(clocks.steady - 100.0)


def test_a_history_without_a_recalibration_has_none_after_a_jump():
    assert History().shifted(HOUR_S) == History()
    episode = Episode(10.0, "a", "b")
    assert History(episode=episode).shifted(5.0).episode == replace(episode, since=15.0)


def test_marks_of_captures_follow_the_clock():
    captures = Captures()
    captures.mark(1000.0, 10, 16)
    captures.shift(-900.0)
    assert captures.since(20, 10) == 100.0


def test_samples_of_before_a_jump_back_are_not_taken_for_those_of_a_drift(tmp_path):
    now = [2e9]
    store = SampleStore(tmp_path, clock=lambda: now[0])
    for value in range(4):
        store.offer({"x": np.full((1, 2), value, np.float32)})
    now[0] -= 5 * HOUR_S
    store.shift(-5 * HOUR_S)
    now[0] += 1.0
    store.offer({"x": np.full((1, 2), 9, np.float32)})
    assert store.forget_since(now[0] - 0.5) == 1
    assert len(store) == 4


def test_a_start_in_1970_does_not_take_what_is_stored_for_new(tmp_path):
    store = SampleStore(tmp_path)
    for value in range(4):
        store.offer({"x": np.full((1, 2), value, np.float32)})
    anew = SampleStore(tmp_path, clock=lambda: 60.0)
    assert [row.time for row in anew.rows()] == [60.0] * 4
    assert anew.forget_since(61.0) == 0


def test_the_count_of_requests_is_written_though_the_clock_was_set_back(tmp_path):
    now = [2e9]
    store = SampleStore(tmp_path, clock=lambda: now[0])
    now[0] = 0.0
    store.offer({"x": np.zeros((1, 2), np.float32)})
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    assert SampleStore(tmp_path.with_name("copy")).offered == 1


def test_strata_are_in_the_order_they_began_in_whatever_the_clock_says():
    names: list[str] = []
    for now in (1.7e9, 0.0, 1.7e9 + 1, 60.0, 1.8e9):
        names.append(new_stratum(now, ["before", *names]))
    assert names == sorted(names)
    assert len(set(names)) == 5
