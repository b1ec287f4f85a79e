"""The closed form equals the published pseudo-code, and NVIDIA's own reading of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibrate.entropy import (
    ONE_SIDED_LEVELS,
    TWO_SIDED_LEVELS,
    divergence,
    divergence_curve,
    divergence_loop,
    entropy_threshold,
    entropy_threshold_loop,
)


@st.composite
def sparse_counts(draw: st.DrawFn) -> np.ndarray:
    """Counts as they come: a decaying body, holes, spikes, a zero peak, a non-empty last bin."""
    bins = draw(st.integers(1, 200))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    decay = draw(st.sampled_from([0.0, 0.01, 0.1]))
    counts = random.poisson(draw(st.sampled_from([0.3, 5, 300])) * np.exp(-decay * np.arange(bins)))
    counts[0] *= draw(st.sampled_from([0, 1, 1000]))
    counts[-1] += 1
    return counts.astype(np.int64)


@given(sparse_counts(), st.sampled_from([8, 16, 128]))
@settings(max_examples=60, deadline=None)
def test_the_closed_form_finds_the_threshold_of_the_loop(counts: np.ndarray, levels: int) -> None:
    assert entropy_threshold(counts, levels) == entropy_threshold_loop(counts, levels)


@given(sparse_counts(), st.data())
@settings(max_examples=60, deadline=None)
def test_the_closed_form_has_the_divergence_of_the_loop(
    counts: np.ndarray, data: st.DataObject
) -> None:
    bins = data.draw(st.integers(1, counts.size))
    levels = data.draw(st.sampled_from([4, 128]))
    smoothed = counts.astype(float)
    smoothed[0] = smoothed[min(1, counts.size - 1)]
    expected = divergence_loop(smoothed, bins, levels)
    assert divergence(counts, bins, levels) == pytest.approx(expected, abs=1e-9)


@given(sparse_counts(), st.sampled_from([8, 128]))
@settings(max_examples=30, deadline=None)
def test_the_curve_has_the_divergence_of_each_candidate(counts: np.ndarray, levels: int) -> None:
    candidates, found = divergence_curve(counts, levels, 20)
    expected = [divergence(counts, int(bins), levels) for bins in candidates]
    assert found == pytest.approx(expected, abs=1e-9)
    assert candidates.size <= 20
    assert (candidates[0], candidates[-1]) == (min(levels, counts.size), counts.size)


def nvidia_threshold(counts: np.ndarray, levels: int) -> int:
    """pytorch-quantization's _compute_amax_entropy, line by line, without scipy."""
    bins = counts.astype(np.int64).copy()
    bins[0] = bins[1]
    divergences, arguments = [], []
    for i in range(levels, len(bins) + 1):
        digitized = np.digitize(np.arange(i), np.linspace(0, i, num=levels + 1)) - 1
        digitized[bins[:i] == 0] = -1
        mass, filled = np.zeros(levels), np.zeros(levels)
        for position, digit in enumerate(digitized):
            if digit != -1:
                mass[digit] += bins[position]
                filled[digit] += 1
        spread = np.array([0.0 if d == -1 else mass[d] / filled[d] for d in digitized])
        reference = bins[:i].astype(float)
        reference[-1] += bins[i:].sum()
        divergences.append(kullback_leibler(reference, spread))
        arguments.append(i)
    last = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    return arguments[last]


def kullback_leibler(p: np.ndarray, q: np.ndarray) -> float:
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    return float(terms.sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_symmetric_rule_is_that_of_tensorrt(seed: int) -> None:
    random = np.random.default_rng(seed)
    magnitudes = np.abs(random.laplace(size=3000)) if seed % 2 else np.abs(random.normal(size=3000))
    counts = np.histogram(magnitudes, 400)[0]
    assert entropy_threshold(counts, TWO_SIDED_LEVELS) == nvidia_threshold(counts, TWO_SIDED_LEVELS)


def test_full_resolution_agrees_with_the_loop_at_its_choice() -> None:
    magnitudes = np.abs(np.random.default_rng(1).standard_t(3, size=100_000))
    counts = np.histogram(magnitudes, 2048)[0]
    for levels in (TWO_SIDED_LEVELS, ONE_SIDED_LEVELS):
        chosen = entropy_threshold(counts, levels)
        smoothed = counts.astype(float)
        smoothed[0] = smoothed[1]
        around = [divergence_loop(smoothed, i, levels) for i in (chosen - 1, chosen, chosen + 1)]
        assert min(around) == around[1] == pytest.approx(divergence(counts, chosen, levels))


def test_a_lone_outlier_is_clipped() -> None:
    counts = np.zeros(2048, np.int64)
    counts[:600] = np.histogram(np.abs(np.random.default_rng(0).normal(size=10**6)), 600)[0]
    counts[-1] = 1
    assert 300 < entropy_threshold(counts, TWO_SIDED_LEVELS) <= 600


@pytest.mark.parametrize("levels", [TWO_SIDED_LEVELS, ONE_SIDED_LEVELS])
def test_fewer_bins_than_levels_are_all_kept(levels: int) -> None:
    for size in (1, 2, levels - 1, levels):
        assert entropy_threshold(np.ones(size, np.int64), levels) == size
        assert divergence(np.ones(size, np.int64), size, levels) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("zeros", [0, 10**9])
def test_all_mass_in_one_bin_is_not_clipped(zeros: int) -> None:
    counts = np.zeros(1500, np.int64)
    counts[-1], counts[0] = 7, zeros
    assert entropy_threshold(counts, TWO_SIDED_LEVELS) == 1500
    assert divergence(counts, 1500, TWO_SIDED_LEVELS) == pytest.approx(0, abs=1e-12)


def test_no_mass_but_the_zero_peak_is_not_clipped() -> None:
    counts = np.zeros(1500, np.int64)
    counts[0] = 5
    assert entropy_threshold(counts, TWO_SIDED_LEVELS) == 1500
    assert entropy_threshold_loop(counts, TWO_SIDED_LEVELS) == 1500
    assert divergence(counts, 700, TWO_SIDED_LEVELS) == 0


def test_the_zero_peak_does_not_count() -> None:
    counts = np.histogram(np.abs(np.random.default_rng(0).normal(size=50_000)), 1024)[0]
    peaked = counts.copy()
    peaked[0] += 10**7
    assert entropy_threshold(peaked, ONE_SIDED_LEVELS) == entropy_threshold(
        counts, ONE_SIDED_LEVELS
    )


def test_clipped_mass_on_an_empty_bin_is_infinitely_far() -> None:
    counts = np.array([3, 3, 0, 2], np.int64)
    assert divergence(counts, 3, 2) == math.inf
    assert divergence(counts, 2, 2) < math.inf


def test_of_equal_minima_the_last_wins() -> None:
    counts = np.ones(64, np.int64)  # every multiple of the levels loses nothing but the clipped
    counts[8:] = 0
    assert entropy_threshold(counts, 8) == 64
    assert entropy_threshold_loop(counts, 8) == 64


def test_the_counts_are_left_as_they_were() -> None:
    counts = np.arange(300, dtype=np.int64)
    entropy_threshold(counts, TWO_SIDED_LEVELS)
    np.testing.assert_array_equal(counts, np.arange(300))
