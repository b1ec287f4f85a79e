"""Counting is exact, so it cannot depend on order, batching or splitting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeq.calibrate.histogram import BINS, LOWEST_EXPONENT, Histogram

values = arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.floats(-4, 4, width=32),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 2.0**-12, -(2.0**-12)]),
    ),
)
cuts = st.lists(st.integers(0, 60), max_size=6).map(sorted)


def histogram_of(*batches: object) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


def counted_one_by_one(flat: np.ndarray, exponent: int) -> np.ndarray:
    bins = np.zeros(2 * BINS, np.int64)
    for value in flat.tolist():  # float64 holds every float32 and every quotient exactly
        bins[BINS + math.floor(value / 2.0 ** (exponent - 11))] += 1
    return bins


@given(values)
@settings(deadline=None)
def test_every_value_is_in_the_bin_of_its_definition(flat: np.ndarray) -> None:
    if np.any(np.abs(flat) > 0):
        histogram = histogram_of(flat)
        bins = counted_one_by_one(flat, histogram.exponent)
        np.testing.assert_array_equal(histogram.bins, bins)


@given(values, cuts, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_counts_are_equal_for_every_order_batching_and_split(
    flat: np.ndarray, cuts: list[int], random: object
) -> None:
    at_once = histogram_of(flat)
    shuffled = flat.tolist()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert histogram_of(*np.split(np.array(shuffled, np.float32), cuts)) == at_once
    parts = [histogram_of(part) for part in np.split(flat, cuts)]
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = Histogram()
    for part in parts:
        merged.merge(part)
    assert merged == at_once


@given(values)
@settings(deadline=None)
def test_merging_leaves_the_other_as_it_was(flat: np.ndarray) -> None:
    other, grown = histogram_of(flat), histogram_of([1e30])
    grown.merge(other)
    assert other == histogram_of(flat)
    assert grown.count == flat.size + 1


@given(values)
@settings(deadline=None)
def test_magnitudes_reach_up_to_the_absolute_maximum(flat: np.ndarray) -> None:
    histogram = histogram_of(flat)
    counts, width = histogram.magnitudes()
    assert counts.sum() == flat.size
    assert 1 <= counts.size <= BINS
    largest = float(np.abs(flat).max(initial=0))
    if largest >= 2.0**LOWEST_EXPONENT:
        assert counts[-1] > 0
        assert counts.size >= BINS // 2
        assert (counts.size - 1) * width <= largest <= counts.size * width


def test_an_empty_histogram_has_no_extrema() -> None:
    histogram = histogram_of([])
    assert (histogram.count, histogram.min, histogram.max) == (0, math.inf, -math.inf)
    assert histogram.magnitudes()[0].tolist() == [0]


def test_zeros_count_in_the_zero_bin() -> None:
    histogram = histogram_of(np.zeros((2, 3)), [-0.0])
    assert histogram.bins[BINS] == 7
    assert (histogram.min, histogram.max) == (0.0, 0.0)
    assert math.copysign(1, histogram.min) == 1


def test_a_constant_is_in_one_bin() -> None:
    histogram = histogram_of(np.full(9, -3.0))
    assert histogram.bins.max() == histogram.count == 9
    assert histogram.magnitudes()[0][-1] == 9


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 1.2e-38])
def test_denormal_values_keep_their_extrema(tiny: float) -> None:
    histogram = histogram_of([tiny, -tiny])
    assert histogram.max == float(np.float32(tiny))
    assert histogram.bins[BINS - 1] == histogram.bins[BINS] == 1


def test_the_largest_float_fits() -> None:
    most = np.finfo(np.float32).max
    histogram = histogram_of([most, -most, 1.0])
    assert (histogram.min, histogram.max, histogram.exponent) == (-most, most, 128)
    assert histogram.bins[[0, BINS, 2 * BINS - 1]].tolist() == [1, 1, 1]


def test_a_power_of_two_doubles_the_range() -> None:
    assert histogram_of([np.nextafter(np.float32(2), np.float32(0))]).exponent == 1
    assert histogram_of([2.0]).exponent == 2


def test_nonfinite_values_are_counted_apart() -> None:
    histogram = histogram_of([1.0, np.nan, np.inf, -np.inf, -2.0])
    assert (histogram.count, histogram.nonfinite) == (2, 3)
    assert (histogram.min, histogram.max) == (-2.0, 1.0)


def test_only_nonfinite_values_leave_the_bins_empty() -> None:
    histogram = histogram_of([np.nan, np.inf])
    assert (histogram.count, histogram.nonfinite, histogram.min) == (0, 2, math.inf)


def test_more_values_than_a_chunk_are_all_counted() -> None:
    normal = np.random.default_rng(0).normal(size=200_001).astype(np.float32)
    for flat in (normal, np.abs(normal)):
        histogram = histogram_of(flat)
        assert histogram.count == flat.size
        np.testing.assert_array_equal(histogram.bins, counted_one_by_one(flat, histogram.exponent))


def test_histograms_that_differ_are_not_equal() -> None:
    assert histogram_of([1.0]) != histogram_of([1.5])
    assert histogram_of([1.0]) != "a histogram"


def test_a_copy_does_not_follow_the_original() -> None:
    histogram = histogram_of([1.0])
    twin = histogram.copy()
    histogram.add(np.array([5.0], np.float32))
    assert twin == histogram_of([1.0])
    assert repr(twin) == "Histogram(count=1, min=1.0, max=1.0)"
