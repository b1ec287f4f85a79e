from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.quantize.affine import quantize_values, weight_parameters
from edgeq.quantize.rounding import DAMPING, compensated, round_weights
from edgeq.tflite.model import Quantization
from edgeq.tflite.schema import schema
from tests import tiny


def correlated(rows: int, columns: int, seed: int = 0) -> tiny.Array:
    """Rows that lie near a few directions, as activations do."""
    draw = np.random.default_rng(seed)
    few = draw.normal(size=(rows, max(1, columns // 4))) @ draw.normal(
        size=(max(1, columns // 4), columns)
    )
    return few + 0.1 * draw.normal(size=(rows, columns))


def moments_of(rows: tiny.Array) -> tiny.Array:
    return (rows.T @ rows / len(rows))[None]


def output_error(weights, levels, scales, moments) -> float:
    errors = weights - levels * scales[:, :, None]
    return float(np.einsum("goi,gij,goj->", errors, moments, errors))


def nearest(weights, scales):
    return np.clip(np.rint(weights / scales[:, :, None]), -127, 127)


@pytest.mark.parametrize("columns", [9, 64, 65, 200])
def test_the_output_is_closer_than_by_nearest_rounding(columns):
    draw = np.random.default_rng(1)
    weights = draw.normal(size=(1, 8, columns))
    scales = np.abs(weights).max(axis=2) / 127
    moments = moments_of(correlated(500, columns))
    levels = compensated(weights, moments, scales)
    before = output_error(weights, nearest(weights, scales), scales, moments)
    assert output_error(weights, levels, scales, moments) < 0.7 * before


def test_without_correlation_rounding_is_to_the_nearest():
    draw = np.random.default_rng(2)
    weights = draw.normal(size=(3, 4, 16))
    scales = np.abs(weights).max(axis=2) / 127
    moments = np.broadcast_to(np.eye(16), (3, 16, 16)) * draw.uniform(1, 2, (3, 1, 16))
    np.testing.assert_array_equal(compensated(weights, moments, scales), nearest(weights, scales))


def test_inputs_that_are_always_zero_round_to_the_nearest():
    weights = np.random.default_rng(3).normal(size=(1, 4, 8))
    scales = np.abs(weights).max(axis=2) / 127
    levels = compensated(weights, np.zeros((1, 8, 8)), scales)
    np.testing.assert_array_equal(levels, nearest(weights, scales))


def by_definition(weights, moments, scales):
    """Column after column by the inverse, as the paper writes it (one group)."""
    energy = np.diag(moments)
    order = np.argsort(-energy, kind="stable")
    damped = moments + (DAMPING * energy.mean() + np.finfo(np.float32).tiny) * np.eye(len(energy))
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    targets = (weights / scales[:, None])[:, order]
    levels = np.zeros_like(targets)
    for k in range(len(energy)):
        levels[:, k] = np.clip(np.rint(targets[:, k]), -127, 127)
        error = (targets[:, k] - levels[:, k]) / factor[k, k]
        targets[:, k:] -= error[:, None] * factor[k, k:][None]
    result = np.empty_like(levels)
    result[:, order] = levels
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 90), st.integers(1, 5))
def test_it_is_the_published_rule(seed, columns, out):
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=(out, columns))
    scales = np.abs(weights).max(axis=1) / 100
    moments = moments_of(correlated(3 * columns, columns, seed))[0]
    wanted = by_definition(weights, moments, scales)
    levels = compensated(weights[None], moments[None], scales[None])[0]
    assert (levels != wanted).mean() <= 0.02  # a tie may fall the other way, and move the rest


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_levels_stay_within_the_narrow_range(seed):
    draw = np.random.default_rng(seed)
    weights = draw.normal(size=(1, 3, 12))
    scales = np.abs(weights).max(axis=2) / 127
    levels = compensated(weights, moments_of(correlated(20, 12, seed)), scales)
    assert levels.dtype == np.int8
    assert np.abs(levels.astype(int)).max() <= 127


# ---- by op: as good as any layout


def frames(*shape: int, count: int = 6) -> list[tiny.Array]:
    draw = np.random.default_rng(4)
    smooth = [draw.normal(size=shape).cumsum(axis=1).cumsum(axis=-1) for _ in range(count)]
    return [np.clip(values * 8, -128, 127).astype(np.int8) for values in smooth]


def layer(op_name: str, weights: tiny.Array, size):
    g = tiny.GraphBuilder({"x": size})
    kernel = g.constant("w", weights)
    options = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
               "FULLY_CONNECTED": "FullyConnectedOptions"}[op_name]  # fmt: skip
    fields = {} if op_name == "FULLY_CONNECTED" else {
        "padding": schema.Padding.SAME, "strideH": 1, "strideW": 1,
        "dilationHFactor": 1, "dilationWFactor": 1,
    }  # fmt: skip
    return g.finish(g.op(op_name, [0, kernel], ("y", size), options=options, **fields))


@pytest.mark.parametrize(
    ("op_name", "shape", "axis", "size"),
    [
        ("CONV_2D", (5, 3, 3, 4), 0, (1, 9, 9, 4)),
        ("CONV_2D", (6, 1, 1, 16), 0, (1, 5, 5, 16)),
        ("CONV_2D", (6, 3, 3, 2), 0, (1, 9, 9, 4)),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 4), 3, (1, 9, 9, 4)),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), 3, (1, 9, 9, 4)),
        ("FULLY_CONNECTED", (7, 24), 0, (1, 24)),
    ],
    ids=["conv", "pointwise", "grouped", "depthwise", "depthwise x 2", "dense"],
)
def test_each_layer_s_output_gets_closer(op_name, shape, axis, size):
    weights = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    parameters = weight_parameters(weights, axis, None, 1.0)
    given = frames(*size, count=40)
    operator = layer(op_name, weights, size).operators[0]
    levels = round_weights(op_name, operator, weights, parameters, given, 3)
    assert levels is not None
    assert levels.shape == weights.shape
    plain = quantize_values(weights, parameters, narrow=True)
    assert 0.0 < np.mean(levels != plain) < 0.9
    assert np.abs(levels.astype(int) - plain).max() <= 16


def test_other_ops_have_no_such_rule():
    one = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    assert round_weights("TRANSPOSE_CONV", None, np.ones((1, 1)), one, [], 0) is None
