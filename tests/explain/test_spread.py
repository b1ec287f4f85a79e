"""How values spread over the INT8 codes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.explain.spread import spread


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def test_codes_are_those_that_quantizing_would_give():
    values = np.random.default_rng(0).normal(size=100_000)
    found = spread(histogram_of(values), -5.0, 5.0)
    codes = np.clip(np.rint((values + 5.0) / (10 / 255)), 0, 255).astype(int)
    expected = np.bincount(codes, minlength=256)
    assert found.step == pytest.approx(10 / 255)
    assert np.abs(found.counts - expected).sum() < 0.05 * values.size  # bins straddle borders
    assert found.counts.sum() == pytest.approx(values.size)


def test_a_far_value_leaves_few_codes_to_the_others():
    values = [*np.random.default_rng(0).normal(size=10_000), 100.0]
    histogram = histogram_of(values)
    assert spread(histogram, histogram.min, histogram.max).used < 22
    assert spread(histogram, -4.0, 4.0).used > 200


def test_what_lies_beyond_the_range_takes_the_end_codes():
    found = spread(histogram_of(np.linspace(-10, 10, 2001)), -1.0, 1.0)
    assert found.counts[0] == pytest.approx(900, abs=5)
    assert found.counts[-1] == pytest.approx(900, abs=5)
    assert found.used == 256


@pytest.mark.parametrize(
    ("values", "used"), [([], 0), ([0.0] * 9, 1), ([7.0] * 9, 1), ([-3e38, 3e38], 256)]
)
def test_odd_tensors_have_codes_too(values, used):
    histogram = histogram_of(np.array(values))
    low, high = (histogram.min, histogram.max) if values else (0.0, 0.0)
    found = spread(histogram, low, high)
    assert found.used == used
    assert found.counts.sum() == pytest.approx(len(values))
