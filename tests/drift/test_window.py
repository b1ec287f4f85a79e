from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.drift.window import MOST_STRETCH, Window, place_of
from tests.drift.streams import counted

codes = st.lists(st.integers(0, 255), min_size=1, max_size=30)


def variance_of(low: int, high: int) -> float:
    """Of the places of single values, evenly from `low` to under `high`."""
    return float(np.var([place_of(counted(code)) for code in range(low, high)]))


def filled(size: int, places: list[int], variance: float = 0.0) -> Window:
    window = Window(size, variance)
    for place in places:
        window.add(counted(place))
    return window


@pytest.mark.parametrize("size", [2, 10, 200])
def test_the_effective_size_tends_to_the_one_asked_for(size):
    window = filled(size, [0] * (8 * size))
    assert window.frames == pytest.approx(size, rel=0.01)
    assert filled(size, [0]).frames == pytest.approx(1.0)


def test_older_frames_weigh_less_and_the_newest_weighs_one():
    window = filled(3, [10, 20, 30])  # each frame halves what came before
    assert window.counts[[10, 20, 30]] == pytest.approx([0.25, 0.5, 1.0])
    assert window.weight == pytest.approx(1.75)


def test_scaled_counts_are_as_many_values_as_the_effective_frames_have():
    window = Window(50)
    for _ in range(300):
        window.add(np.full(256, 4))
    assert window.scaled_counts().sum() == pytest.approx(window.frames * 4 * 256)
    assert not Window(50).scaled_counts().any()


@given(codes, st.integers(1, 20))
def test_merging_equals_counting_at_once(places, size):
    """Two cameras, seen by a window each, or both by one: frames at the same time weigh alike."""
    one, other = filled(size, places), filled(size, places[::-1])
    decay = (size - 1) / (size + 1)
    weights = decay ** np.arange(len(places) - 1, -1, -1)
    expected = np.bincount(places, weights, 256) + np.bincount(places[::-1], weights, 256)
    one.merge(other)
    assert np.allclose(one.counts, expected)
    both = np.concatenate([weights, weights])
    assert one.kish == pytest.approx(both.sum() ** 2 / np.square(both).sum())


@given(codes, st.integers(1, 20))
def test_an_array_holds_all_of_a_window(places, size):
    window = filled(size, places, 25.0)
    again = Window.from_array(size, 25.0, window.to_array())
    window.add(counted(3))
    again.add(counted(3))
    assert np.array_equal(window.to_array(), again.to_array())


def test_frames_that_do_not_hang_together_all_count():
    draw = np.random.default_rng(0)
    window = filled(200, list(draw.integers(80, 120, 2000)), variance=variance_of(80, 120))
    assert window.stretch == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("times", [5, 10])
def test_frames_alike_count_as_about_one_and_the_window_reaches_further_back(times):
    draw = np.random.default_rng(0)
    places = np.repeat(draw.integers(80, 120, 1000), times)
    window = filled(50, list(places), variance=variance_of(80, 120))
    assert times <= window.stretch <= 3 * times
    assert window.kish > 3 * 50
    assert window.frames == pytest.approx(50, rel=0.25)


def test_a_picture_that_never_changes_still_counts_for_something():
    window = filled(200, [100] * 2000, variance=100.0)
    assert window.stretch == MOST_STRETCH
    assert window.frames > 25


def test_darkness_is_not_taken_for_likeness():
    """A quarter of the variance is that of a darker picture, whose frames differ as much."""
    draw = np.random.default_rng(0)
    places = [*draw.integers(80, 160, 1000), *draw.integers(40, 80, 1000)]
    window = filled(100, places, variance=variance_of(80, 160))
    assert window.stretch == 1.0


def test_what_never_changed_in_the_reference_has_no_correlation():
    assert filled(100, [5] * 200, variance=0.0).correlation == 0.0


def test_shares_that_add_up_to_one_are_told_apart():
    """Two scores: their mean is the same in every frame."""
    sure, unsure = counted(0) + counted(255), counted(127) + counted(128)
    assert abs(place_of(sure) - place_of(unsure)) > 50
