from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.observe.divergence import (
    LEAST_FRAMES,
    chance_threshold,
    js_distance,
    ks_statistic,
    psi,
    wasserstein_distance,
)

MANY = 10_000  # frames: an empty reference bin is then surely empty

counts = hnp.arrays(np.int64, 8, elements=st.integers(0, 1000)).filter(lambda c: c.sum() > 0)


def shares(values) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return array / array.sum()


def test_psi_is_the_formula_where_no_bin_is_empty():
    p, q = shares([50, 30, 20]), shares([40, 40, 20])
    expected = (0.4 - 0.5) * math.log(0.4 / 0.5) + (0.4 - 0.3) * math.log(0.4 / 0.3)
    assert psi(p, q, MANY) == pytest.approx(expected)


def test_psi_takes_an_empty_bin_as_one_in_ten_thousand():
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    expected = (0.5 - 1) * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    assert psi(p, q, MANY) == pytest.approx(expected)
    assert psi(q, p, MANY) == pytest.approx(expected)  # empty on the live side


def test_psi_forgives_what_so_few_reference_frames_may_have_missed():
    p, q = np.array([1.0, 0.0]), np.array([0.95, 0.05])
    inside = (0.95 - 1) * math.log(0.95)
    assert psi(p, q, 9) == pytest.approx(inside)  # 1 / (9 + 1) covers 0.05
    assert psi(p, q, MANY) > 0.3
    gone = np.array([0.0, 1.0])
    assert psi(p, gone, 9) > 2  # all values where there were none is news at any number


def test_psi_works_on_many_pairs_at_once():
    p, q = shares([1, 2, 3]), shares([3, 2, 1])
    assert psi(np.stack([p, p]), np.stack([q, p]), MANY) == pytest.approx([psi(p, q, MANY), 0.0])


def test_the_statistics_are_evidently_s_on_its_own_bins():
    # Evidently 0.7.23 on N(0, 1) x 5000 against N(0.3, 1.2) x 2000: its bins over both samples.
    draw = np.random.default_rng(0)
    reference, live = draw.normal(0, 1, 5000), draw.normal(0.3, 1.2, 2000)
    edges = np.histogram_bin_edges(np.concatenate([reference, live]), "sturges")
    p, q = (shares(np.histogram(v, edges)[0]) for v in (reference, live))
    assert psi(p, q, MANY) == pytest.approx(0.176, abs=0.03)  # other seeds, so not to the digit
    assert js_distance(p, q) == pytest.approx(0.142, abs=0.015)
    assert wasserstein_distance(p, q, edges) / reference.std() == pytest.approx(0.338, abs=0.04)


@given(counts, counts)
def test_js_is_a_symmetric_distance_below_its_bound(a, b):
    p, q = shares(a), shares(b)
    distance = js_distance(p, q)
    assert 0 <= distance <= math.sqrt(math.log(2)) + 1e-12
    assert distance == pytest.approx(js_distance(q, p))
    assert js_distance(p, p) == 0.0


def test_js_is_the_formula():
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    divergence = (math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    assert js_distance(p, q) == pytest.approx(math.sqrt(divergence))
    assert js_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(
        math.sqrt(math.log(2))
    )


def test_ks_is_the_largest_gap_between_the_cumulated_shares():
    p, q = shares([2, 2, 3, 3]), shares([3, 3, 2, 2])
    assert ks_statistic(p, q) == pytest.approx(0.2)


@given(counts, counts)
def test_ks_lies_between_nothing_and_everything(a, b):
    assert 0 <= ks_statistic(shares(a), shares(b)) <= 1 + 1e-12


def test_moving_all_mass_by_one_costs_one():
    edges = np.arange(5.0)
    assert wasserstein_distance(shares([1, 0, 0, 0]), shares([0, 1, 0, 0]), edges) == pytest.approx(
        1.0
    )
    assert wasserstein_distance(shares([1, 0, 0, 0]), shares([0, 0, 0, 1]), edges) == pytest.approx(
        3.0
    )


def test_the_wasserstein_distance_is_that_of_the_sorted_values():
    draw = np.random.default_rng(1)
    a, b = draw.normal(0, 1, 4000), draw.normal(0.5, 1.5, 4000)
    exact = np.abs(np.sort(a) - np.sort(b)).mean()
    edges = np.linspace(-8, 8, 200)
    p, q = (shares(np.histogram(v, edges)[0]) for v in (a, b))
    assert wasserstein_distance(p, q, edges) == pytest.approx(exact, rel=0.01)


def test_shares_that_cross_within_a_bin_are_integrated_on_both_sides():
    # cumulated differences 0, 0.5, -0.5, 0 over bins of width 1: triangles of 1/4, two of 1/8, 1/4
    p, q = np.array([0.5, 0.0, 0.5]), np.array([0.0, 1.0, 0.0])
    assert wasserstein_distance(p, q, np.arange(4.0)) == pytest.approx(0.25 + 0.25 + 0.25)


def test_the_threshold_is_the_same_every_time():
    frames = shares(np.random.default_rng(0).integers(1, 9, (20, 6)))
    assert chance_threshold(frames, 50) == chance_threshold(frames, 50)


def test_the_threshold_falls_with_the_window_and_with_the_frames():
    draw = np.random.default_rng(0)
    frames = draw.dirichlet(np.full(8, 5.0), 128)
    assert chance_threshold(frames, 20) > chance_threshold(frames, 100)
    assert chance_threshold(frames[:16], 100) > chance_threshold(frames, 100)


def test_frames_that_are_all_alike_leave_nothing_to_chance():
    assert chance_threshold(np.tile(shares([1, 2, 3]), (10, 1)), 50) == pytest.approx(0, abs=1e-12)


def test_too_few_frames_say_nothing():
    assert chance_threshold(np.full((LEAST_FRAMES - 1, 2), 0.5), 50) == math.inf
