"""Each method's range, and that the error it weighs is the error that INT8 makes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS, Magnitudes, Range, squared_errors


def histogram_of(values: object) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def normal(size: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def quantization_error(values: np.ndarray, chosen: Range) -> float:
    """Squared error of rounding to the 256 levels of the range, zero exactly representable."""
    lo, hi = min(chosen.lo, 0.0), max(chosen.hi, 0.0)
    scale = (hi - lo) / 255
    zero_point = round(-lo / scale)
    levels = np.clip(np.round(values.astype(np.float64) / scale) + zero_point, 0, 255)
    return float(np.sum(((levels - zero_point) * scale - values) ** 2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0], [3.0] * 5, [-2.5], [0.0] * 99 + [4.0]])
def test_a_constant_tensor_keeps_its_extrema(method: str, values: list[float]) -> None:
    chosen = METHODS[method](histogram_of(values))
    assert (chosen.lo, chosen.hi, chosen.clipped_ratio) == (min(values), max(values), 0)
    assert math.isfinite(chosen.divergence)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_histogram_has_the_range_zero(method: str) -> None:
    chosen = METHODS[method](Histogram())
    assert (chosen.lo, chosen.hi, chosen.clipped_ratio, chosen.divergence) == (0, 0, 0, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("magnitude", [1e-44, 1e-38, 1e-20, 1e20, 3e38])
def test_a_range_is_finite_at_every_magnitude(method: str, magnitude: float) -> None:
    chosen = METHODS[method](histogram_of(normal(5000) * 0.2 * np.float32(magnitude)))
    assert -math.inf < chosen.lo < 0 < chosen.hi < math.inf


def test_max_clips_nothing() -> None:
    values = normal()
    chosen = METHODS["max"](histogram_of(values))
    assert (chosen.lo, chosen.hi) == (values.min(), values.max())
    assert (chosen.clipped_ratio, chosen.method) == (0, "max")


@pytest.mark.parametrize("method", ["entropy", "entropy-unguarded", "percentile", "mse"])
def test_a_lone_outlier_is_clipped(method: str) -> None:
    values = np.append(normal(1_000_000), np.float32(15.0))
    chosen = METHODS[method](histogram_of(values))
    assert chosen.hi < 8
    outside = (values < chosen.lo) | (values > chosen.hi)
    assert chosen.clipped_ratio == pytest.approx(outside.mean(), rel=0.02, abs=2e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_one_sided_tensor_has_nothing_below_zero(method: str) -> None:
    positive = METHODS[method](histogram_of(np.maximum(normal(), 0)))
    negative = METHODS[method](histogram_of(np.minimum(normal(), 0)))
    assert positive.lo == 0 < positive.hi
    assert negative.hi == 0 > negative.lo


def test_a_lopsided_tensor_is_cut_on_its_long_side_only() -> None:
    values = normal()
    hard_swish = values * np.clip(values + 3, 0, 6) / 6
    chosen = METHODS["percentile"](histogram_of(hard_swish))
    assert chosen.lo == hard_swish.min()
    assert 0 < chosen.hi < hard_swish.max()


def test_a_tensor_far_from_zero_keeps_its_near_end() -> None:
    chosen = METHODS["entropy"](histogram_of(5 + np.abs(normal())))
    assert chosen.lo >= 5
    assert chosen.hi > 7


def test_percentile_keeps_exactly_its_share() -> None:
    chosen = METHODS["percentile"](histogram_of(np.arange(1, 100_001)))
    assert 99_990 <= chosen.hi <= 99_990 + 64
    assert chosen.clipped_ratio <= 1e-4


def test_percentile_keeps_all_of_a_small_tensor() -> None:
    chosen = METHODS["percentile"](histogram_of([*normal(500), 100.0]))
    assert chosen.hi == 100


def test_the_guard_takes_over_where_entropy_clips_what_matters() -> None:
    random = np.random.default_rng(0)
    values = np.zeros(200_000, np.float32)  # late, sparse, heavy-tailed
    values[::40] = random.lognormal(0, 1.2, 5000)
    histogram = histogram_of(values)
    guarded, unguarded, largest = (
        METHODS[m](histogram) for m in ("entropy", "entropy-unguarded", "max")
    )
    assert guarded.method == "mse"
    assert guarded == METHODS["mse"](histogram)
    assert quantization_error(values, guarded) < quantization_error(values, largest)
    assert quantization_error(values, largest) < quantization_error(values, unguarded)


def test_the_guard_leaves_a_good_entropy_threshold_alone() -> None:
    histogram = histogram_of(np.append(np.maximum(normal(1_000_000), 0), np.float32(8)))
    guarded, unguarded = METHODS["entropy"](histogram), METHODS["entropy-unguarded"](histogram)
    assert guarded.method == "entropy"
    assert (guarded.lo, guarded.hi) == (unguarded.lo, unguarded.hi)


@pytest.mark.parametrize("is_one_sided", [False, True])
def test_the_weighed_error_is_the_error_of_int8(is_one_sided: bool) -> None:
    values = np.random.default_rng(3).laplace(size=100_000).astype(np.float32)
    values = np.maximum(values, 0) if is_one_sided else values
    magnitudes = Magnitudes.of(histogram_of(values))
    errors = squared_errors(magnitudes) * magnitudes.width**2
    for bins in (errors.size, errors.size // 2, errors.size // 4):
        expected = quantization_error(values, magnitudes.range(bins, ""))
        assert errors[bins - 1] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_mse_is_nearly_the_best_of_all_thresholds(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(4, size=50_000).astype(np.float32)
    magnitudes = Magnitudes.of(histogram_of(values))
    found = quantization_error(values, METHODS["mse"](histogram_of(values)))
    every = [
        quantization_error(values, magnitudes.range(bins, ""))
        for bins in range(40, magnitudes.counts.size, 40)
    ]
    assert found <= min(every) * 1.05


def test_pixels_keep_their_whole_range() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 100_000)
    for method in METHODS:
        chosen = METHODS[method](histogram_of(pixels))
        assert (chosen.lo, round(chosen.hi)) == (0, 255)


def test_the_divergence_is_infinite_where_clipped_mass_meets_an_empty_bin() -> None:
    values = [0.0] * 10_000 + [0.5] + [0.75] * 400_000 + [1.99]  # percentile cuts at 0.75
    chosen = METHODS["percentile"](histogram_of(values))
    assert chosen.hi < 1
    assert chosen.divergence < math.inf
    magnitudes = Magnitudes.of(histogram_of(values))
    assert magnitudes.range(1000, "").divergence == math.inf
