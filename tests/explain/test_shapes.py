"""The shape of a distribution, as tags."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.explain.shapes import shape_tags

DRAW = np.random.default_rng(0)
NORMAL = DRAW.normal(size=50_000)
RELU = np.maximum(NORMAL, 0)
TWO_HUMPS = np.concatenate([NORMAL - 4, NORMAL + 4])


def tags(values: np.ndarray) -> set[str]:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return set(shape_tags(histogram))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], set()),
        ([np.nan], set()),
        (np.zeros(9), {"dead"}),
        (np.full(9, 3.0), {"constant"}),
        (np.full(9, -3.0), {"constant"}),
        (NORMAL, set()),
        (RELU, {"all_positive"}),
        (-RELU, {"all_negative"}),
        (np.where(NORMAL < 0, NORMAL * 0.1, NORMAL), {"lopsided"}),
        (np.append(NORMAL, 50.0), {"heavy_tail", "lopsided"}),
        (np.append(NORMAL, [50.0, -50.0]), {"heavy_tail"}),
        (TWO_HUMPS, {"bimodal"}),
        (np.clip(NORMAL * 2, 0, 6.0), {"all_positive"}),
        (np.clip(NORMAL * 4, 0, 6.0), {"all_positive", "bimodal"}),  # RELU6 piles them up at 6
    ],
)
def test_each_shape_has_its_tags(values, expected):
    assert tags(values) == expected


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 7.0, 1e20])
def test_the_unit_is_no_matter(scale):
    for values in (NORMAL, RELU, TWO_HUMPS, np.append(RELU, 50.0)):
        assert tags(values * scale) == tags(values)


def test_zeros_make_no_tail_of_what_is_left():
    sparse = np.where(DRAW.random(RELU.size) < 0.99, 0.0, RELU)
    assert tags(sparse) == {"all_positive"}


def test_the_zeros_of_a_relu_are_no_hump():
    assert "bimodal" not in tags(np.maximum(NORMAL + 3, 0))
    assert "bimodal" not in tags(np.maximum(NORMAL - 0.5, 0))


def test_a_small_hump_is_none():
    assert "bimodal" not in tags(np.concatenate([NORMAL, NORMAL[:2000] + 9]))


def test_chance_makes_no_valley():
    for seed in range(40):
        assert "bimodal" not in tags(np.random.default_rng(seed).random(100))


def test_values_far_from_zero_in_few_bins_are_one_hump():
    assert "bimodal" not in tags(1000 + NORMAL * 10)
