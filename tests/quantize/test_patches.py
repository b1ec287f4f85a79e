from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeq.quantize.patches import MAX_PLACES, MAX_VALUES, patches, spread
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


def convolution(kernel: tiny.Array, size, out, *, padding, stride, dilation) -> Model:
    """'x' [1, *size, C] -> CONV_2D -> 'y'."""
    g = tiny.GraphBuilder({"x": (1, *size, kernel.shape[3])})
    weights = g.constant("w", kernel)
    bias = g.constant("b", np.zeros(len(kernel), np.float32))
    y = g.op("CONV_2D", [0, weights, bias], ("y", (1, *out, len(kernel))),
             options="Conv2DOptions", padding=padding, strideH=stride[0], strideW=stride[1],
             dilationHFactor=dilation[0], dilationWFactor=dilation[1])  # fmt: skip
    return g.finish(y)


@pytest.mark.parametrize(
    ("padding", "stride", "dilation"),
    [
        *itertools.product([SAME, VALID], [(1, 1), (2, 1), (2, 3)], [(1, 1)]),
        *itertools.product([SAME, VALID], [(1, 1)], [(2, 1), (1, 2)]),
    ],
)
def test_the_rows_times_the_weights_are_what_the_runtime_computes(padding, stride, dilation):
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(4, 3, 2, 3)).astype(np.float32)
    model = convolution(kernel, (7, 8), (1, 1), padding=padding, stride=stride, dilation=dilation)
    frames = [draw.normal(size=(1, 7, 8, 3)).astype(np.float32) for _ in range(2)]
    rows = patches(model.operators[0], (3, 2), frames, 0)
    computed = rows.reshape(len(rows), -1) @ kernel.reshape(4, -1).T
    runner = Runner(model.to_bytes())
    wanted = np.concatenate([runner.run({"x": frame})["y"].reshape(-1, 4) for frame in frames])
    np.testing.assert_allclose(computed, wanted, atol=1e-5)


def test_beyond_the_border_is_the_padding_value():
    kernel = np.ones((1, 3, 3, 1), np.float32)
    one = (1, 1)
    model = convolution(kernel, (4, 4), (4, 4), padding=SAME, stride=one, dilation=one)
    rows = patches(model.operators[0], (3, 3), [np.ones((1, 4, 4, 1), np.int8)], -128)
    assert rows.shape == (16, 3, 3, 1)
    assert (rows[0, 0] == -128).all()
    assert (rows[0, 1:, 1:] == 1).all()


def test_few_places_are_all_taken():
    np.testing.assert_array_equal(spread(10, 1), np.arange(10))


def test_of_many_places_an_even_spread_is_taken():
    taken = spread(1_000_003, 9)
    assert taken.size == pytest.approx(MAX_PLACES, rel=0.01)
    assert taken.min() >= 0
    assert taken.max() < 1_000_003
    counts, _ = np.histogram(taken, bins=16, range=(0, 1_000_003))
    assert counts.min() > 0.9 * counts.max()


def test_no_column_of_an_image_is_preferred():
    columns = np.bincount(spread(640 * 480 * 4, 1) % 640, minlength=640)
    assert columns.max() <= 3 * MAX_PLACES / 640


def test_wide_kernels_take_fewer_places():
    assert spread(100_000, 4096).size <= MAX_VALUES // 4096
    assert spread(100_000, 10 * MAX_VALUES).size == 1
