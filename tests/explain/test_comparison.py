"""Two forms of one activation, compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.explain.comparison import MAX_VALUES, Comparison, Scale

EVERYTHING = (-math.inf, math.inf)
DRAW = np.random.default_rng(0)
VALUES = DRAW.normal(size=(1, 10, 10, 4)).astype(np.float32)


def compared(expected, actual, forced=None, *, step=0.01, holds=EVERYTHING, read=EVERYTHING):
    comparison = Comparison(Scale(step, holds, read))
    comparison.add(expected, actual, expected if forced is None else forced)
    return comparison


def test_equal_values_have_no_noise():
    same = compared(VALUES, VALUES)
    assert (same.noise_ratio, same.shift, same.rounding, same.saturated) == (0, 0, 0, 0)


def test_noise_is_a_share_of_float_s_energy_and_passed_noise_too():
    both = compared(VALUES, VALUES * 1.1, VALUES * 0.9)
    assert both.noise_ratio == pytest.approx(0.01, rel=1e-5)
    assert both.passed_ratio == pytest.approx(0.01, rel=1e-5)


def test_inputs_add_up_in_any_order():
    first, second = compared(VALUES, VALUES * 1.1), compared(VALUES[..., ::-1], VALUES)
    second.add(VALUES, VALUES * 1.1, VALUES)
    first.add(VALUES[..., ::-1], VALUES, VALUES[..., ::-1])
    assert first.noise == pytest.approx(second.noise)
    assert first.shift == pytest.approx(second.shift)


def test_a_shift_of_the_channels_is_all_shift():
    moved = compared(VALUES, VALUES + np.array([0.1, -0.2, 0.0, 0.3], np.float32))
    assert moved.shift == pytest.approx(1.0, abs=1e-4)


def test_noise_by_chance_is_no_shift():
    shares = [
        compared(VALUES[:, :2, :2], VALUES[:, :2, :2] + DRAW.normal(size=(1, 2, 2, 4))).shift
        for _ in range(60)
    ]
    assert np.mean(shares) < 0.15  # a mean over 4 values holds a quarter of the variance


def test_one_value_a_channel_says_nothing_about_its_mean():
    assert compared(VALUES[:, :1, :1], VALUES[:, :1, :1] + 1).shift == 0.0


def test_rounding_explains_what_rounding_does():
    rounded = np.rint(VALUES / 0.1) * 0.1
    assert compared(VALUES, rounded, step=0.1).rounding > 0.9
    assert compared(VALUES, rounded, step=0.01).rounding < 0.02


def test_saturated_values_are_those_beyond_half_a_step():
    expected = np.array([[-3.0, -1.004, 0.0, 1.004, 1.5]], np.float32).T
    both = compared(expected, np.clip(expected, -1, 1), holds=(-1.0, 1.0))
    assert both.saturated_ratios == (0.2, 0.2)
    assert both.saturated == pytest.approx(1.0, abs=1e-4)


def test_what_no_reader_tells_apart_is_equal():
    below = compared(VALUES, np.maximum(VALUES, 0), read=(0.0, math.inf), holds=(0.0, 9.0))
    assert below.noise == 0.0
    assert below.saturated_ratios == (0.0, 0.0)


def test_one_wide_channel_makes_the_spread():
    wide = VALUES * np.array([1, 1, 50, 1], np.float32)
    assert 30 < compared(wide, wide).channel_spread < 100
    assert compared(np.zeros((1, 4)), np.zeros((1, 4))).channel_spread == 1.0


def test_an_input_that_is_not_finite_says_nothing():
    broken = VALUES.copy()
    broken[0, 0, 0, 0] = np.inf
    comparison = compared(VALUES, VALUES * 1.1)
    noise = comparison.noise
    with np.errstate(invalid="ignore"):
        comparison.add(VALUES, broken, VALUES)
        comparison.add(broken, VALUES, VALUES)
    assert comparison.noise == noise


def test_a_scalar_and_an_empty_activation_are_taken():
    assert compared(np.float32(2.0), np.float32(1.0)).noise_ratio == 0.25
    for shape in [(1, 0, 4), (1, 4, 0), (0,)]:
        assert compared(np.zeros(shape), np.zeros(shape)).noise_ratio == 0.0


def test_a_large_activation_is_thinned_to_all_its_channels_and_columns():
    large = np.tile(np.arange(64, dtype=np.float32)[:, None], (2 * MAX_VALUES // 64, 3))
    comparison = compared(large, large + 1)
    assert comparison.noise <= MAX_VALUES
    assert comparison.signal / comparison.noise == pytest.approx(np.square(large).mean(), rel=0.01)
