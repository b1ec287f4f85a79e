"""Ranges, weights and biases become integers that stay within half a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.quantize.affine import (
    BIAS_LIMIT,
    activation_parameters,
    dequantize_values,
    quantize_bias,
    quantize_values,
    representable,
    symmetric_parameters,
    weight_parameters,
)
from tests.tiny import Array

BOUNDS = st.floats(-1e6, 1e6, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6)
WEIGHTS = hnp.arrays(np.float32, (5, 3, 2), elements=st.floats(-8, 8, width=32))


@given(BOUNDS, BOUNDS, st.floats(0, 1))
def test_quantizing_and_back_is_within_half_a_step(a: float, b: float, where: float) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    parameters = activation_parameters(low, high)
    value = np.array([low + where * (high - low)])
    back = dequantize_values(quantize_values(value, parameters), parameters)
    # half a step, and up to half more at one end where rounding the zero point shifts the range
    assert abs(back[0] - value[0]) <= 1.001 * parameters.scale[0]
    inside = representable(parameters)
    if inside[0] <= value[0] <= inside[1]:
        assert abs(back[0] - value[0]) <= 0.501 * parameters.scale[0]


@given(BOUNDS, BOUNDS)
def test_zero_is_exact_and_the_zero_point_fits_int8(a: float, b: float) -> None:
    parameters = activation_parameters(min(a, b), max(a, b))
    zero = quantize_values(np.zeros(1), parameters)
    assert -128 <= parameters.zero_point[0] <= 127
    assert zero[0] == parameters.zero_point[0]


def test_one_sided_ranges_get_all_256_levels() -> None:
    assert activation_parameters(0, 255).zero_point[0] == -128
    assert activation_parameters(2, 255).zero_point[0] == -128
    assert activation_parameters(-255, 0).zero_point[0] == 127
    assert activation_parameters(0, 255).scale[0] == 1


def test_a_dead_activation_has_scale_one() -> None:
    parameters = activation_parameters(0, 0)
    assert (parameters.scale[0], parameters.zero_point[0]) == (1, 0)


@given(WEIGHTS, st.sampled_from([0, 1, 2]))
def test_weights_are_symmetric_per_channel_and_within_half_a_step(values: Array, axis: int) -> None:
    parameters = weight_parameters(values, axis, None, 0.1)
    levels = quantize_values(values, parameters, narrow=True)
    assert len(parameters.scale) == values.shape[axis]
    assert parameters.axis == axis
    assert not parameters.zero_point.any()
    assert levels.min() >= -127
    error = np.abs(dequantize_values(levels, parameters) - values)
    assert np.all(error <= parameters.scale.max() * 0.501)


def test_a_channel_of_zeros_takes_a_scale_of_its_neighbours() -> None:
    values = np.array([[0, 0], [127, 1], [0, 254]], np.float32)
    assert weight_parameters(values, 0, None, 1.0).scale.tolist() == [2, 1, 2]
    assert weight_parameters(np.zeros((2, 2), np.float32), 0, None, 1.0).scale.tolist() == [1, 1]


def test_a_bias_that_would_overflow_int32_enlarges_its_channels_weight_scale() -> None:
    values = np.array([[1e-12], [1.0]], np.float32)
    bias = np.array([3.0, 3.0], np.float32)
    parameters = weight_parameters(values, 0, bias, 0.01)
    levels, scaled = quantize_bias(bias, parameters, 0.01)
    assert np.abs(levels).max() <= BIAS_LIMIT * 1.001
    np.testing.assert_allclose(levels * scaled.scale, bias, rtol=1e-6)
    assert parameters.scale[1] == np.float32(1 / 127)


def test_bias_scale_is_input_scale_times_weight_scale() -> None:
    weights = weight_parameters(np.array([[127.0], [254.0]], np.float32), 0, None, 0.5)
    levels, parameters = quantize_bias(np.array([10.0, -10.0], np.float32), weights, 0.5)
    assert levels.dtype == np.int32
    assert levels.tolist() == [20, -10]
    assert parameters.scale.tolist() == [0.5, 1.0]


def test_values_outside_saturate() -> None:
    parameters = activation_parameters(-1, 1)
    values = np.array([-np.inf, -5, 5, np.inf])
    assert quantize_values(values, parameters).tolist() == [-128, -128, 127, 127]


def test_symmetric_constants_have_zero_point_zero() -> None:
    parameters = symmetric_parameters(np.array([0.0, 12.7], np.float32))
    assert parameters.scale[0] == pytest.approx(0.1)
    assert parameters.zero_point.tolist() == [0]
