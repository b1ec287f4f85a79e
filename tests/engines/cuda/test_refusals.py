"""An op that cannot be lowered exactly stays on the CPU, and says why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeq.engines.cuda.lowering.partition import partition
from edgeq.quantize.affine import per_tensor
from edgeq.tflite.model import Model, Quantization
from edgeq.tflite.schema import schema
from tests.engines.cuda.int8_models import Grid, Int8Model, random_inputs
from tests.engines.cuda.lowered import differing_bytes

Build = Callable[[Int8Model], int]
IMAGE = (1, 4, 4, 2)
UNKNOWN = "takes or gives a tensor whose shape is not known beforehand"
SO_ANOTHER = "so another kernel computes it"


def model_of(build: Build) -> Model:
    g = Int8Model()
    return g.finish(build(g))


def convolved(g: Int8Model, inputs: list[int], **fields: int) -> int:
    y = g.activation(IMAGE)
    options = {"strideH": 1, "strideW": 1, **fields}
    return g.op("CONV_2D", inputs, y, "Conv2D", version=3, **options)


def without_bias(g: Int8Model) -> int:
    return convolved(g, [g.input(IMAGE), g.weights((2, 1, 1, 2), 0)])


def weights_with_a_zero_point(g: Int8Model) -> int:
    weights = g.weights((2, 1, 1, 2), 0)
    g.model.tensors[weights].quantization.zeroPoint = np.ones(2, np.int64)
    return convolved(g, [g.input(IMAGE), weights, g.bias(2)])


def weights_along_another_axis(g: Int8Model) -> int:
    scales = Quantization(np.ones(2, np.float32), np.zeros(2, np.int64), 3)
    weights = g.constant(np.ones((2, 1, 1, 2)), "INT8", scales)
    return convolved(g, [g.input(IMAGE), weights, g.bias(2)])


def weights_that_are_computed(g: Int8Model) -> int:
    return convolved(g, [g.input(IMAGE), g.input((2, 1, 1, 2)), g.bias(2)])


def an_enormous_scale(g: Int8Model) -> int:
    x, y = g.input((1, 2), Grid(1e4)), g.activation((1, 2), Grid(1e-3))
    return g.op("FULLY_CONNECTED", [x, g.weights((2, 2), 0), g.bias(2)], y, "FullyConnected")


def a_fused_tanh(g: Int8Model) -> int:
    weights = g.weights((2, 1, 1, 2), 0)
    tanh = schema.ActivationFunctionType.TANH
    return convolved(g, [g.input(IMAGE), weights, g.bias(2)], fusedActivationFunction=tanh)


def a_stride_of_zero(g: Int8Model) -> int:
    return convolved(g, [g.input(IMAGE), g.weights((2, 1, 1, 2), 0), g.bias(2)], strideH=0)


def strides_beyond_the_kernel(g: Int8Model) -> int:
    shape = (1, 8, 8, 3)
    inputs = [g.constant(shape), g.weights((3, 1, 1, 2), 0), g.input(IMAGE)]
    return g.op("TRANSPOSE_CONV", inputs, g.activation(shape), "TransposeConv", strideH=2,
                strideW=2)  # fmt: skip


def a_small_addend(g: Int8Model) -> int:
    a, b = g.input(IMAGE, Grid(1e-4)), g.input(IMAGE, Grid(1))
    return g.op("ADD", [a, b], g.activation(IMAGE, Grid(1)), "Add")


def another_scale(name: str, options: str, **fields: int) -> Build:
    def build(g: Int8Model) -> int:
        x, y = g.input(IMAGE), g.activation(IMAGE, Grid(0.07))
        return g.op(name, [x], y, options, **fields)

    return build


def a_reshape_to_another_scale(g: Int8Model) -> int:
    y = g.activation((1, 32), Grid(0.07))
    return g.op("RESHAPE", [g.input(IMAGE), g.constant((1, 32))], y, "Reshape", version=1)


def dimensions_apart(g: Int8Model) -> int:
    axes = g.constant((1, 3))
    return g.op("MEAN", [g.input(IMAGE), axes], g.activation((1, 4)), "Reducer")


def slopes_for_each_pixel(g: Int8Model) -> int:
    return g.op("PRELU", [g.input(IMAGE), g.levels(IMAGE[1:])], g.activation(IMAGE), version=1)


def a_difference_of_two(g: Int8Model) -> int:
    inputs = [g.input(IMAGE), g.input(IMAGE)]
    return g.op("SQUARED_DIFFERENCE", inputs, g.activation(IMAGE))


def a_begin_that_is_computed(g: Int8Model) -> int:
    begin = g.input((4,), type_name="INT32")
    return g.op("SLICE", [g.input(IMAGE), begin, g.constant(IMAGE)], g.activation(IMAGE))


def a_shape_that_is_computed(g: Int8Model) -> int:
    shape = g.input((2,), type_name="INT32")
    return g.op("RESHAPE", [g.input(IMAGE), shape], g.activation((1, 32)), "Reshape", version=1)


def slices_that_are_computed(g: Int8Model) -> int:
    inputs = [g.input(IMAGE), g.input((3,), type_name="INT32")]
    return g.op("GATHER", inputs, g.activation((1, 4, 4, 3)), "Gather", axis=3)


def a_new_axis(g: Int8Model) -> int:
    x, ends = g.input(IMAGE), [g.constant([v] * 4) for v in (0, 4, 1)]
    y = g.activation((1, *IMAGE[:3]))
    return g.op("STRIDED_SLICE", [x, *ends], y, "StridedSlice", newAxisMask=1)


def a_concatenation_with_relu(g: Int8Model) -> int:
    y = g.activation((2, 4, 4, 2))
    relu = schema.ActivationFunctionType.RELU
    return g.op("CONCATENATION", [g.input(IMAGE), g.input(IMAGE)], y, "Concatenation",
                axis=0, fusedActivationFunction=relu)  # fmt: skip


def sixteen_bits(g: Int8Model) -> int:
    x, y = (g.model.add_tensor(n, IMAGE, "INT16", quantization=per_tensor(0.01, 0)) for n in "xy")
    g._inputs.append(x)
    return g.op("TANH", [x], y)


REASONS: tuple[tuple[Build, str], ...] = (
    (without_bias, f"CONV_2D has no bias, {SO_ANOTHER}"),
    (weights_with_a_zero_point, "CONV_2D has weights with a zero point"),
    (weights_along_another_axis, "CONV_2D has weights with scales along another axis"),
    (weights_that_are_computed, "CONV_2D has computed weights"),
    (an_enormous_scale, "FULLY_CONNECTED has a scale that XNNPACK refuses"),
    (a_fused_tanh, "CONV_2D has the fused activation 4"),
    (a_stride_of_zero, "CONV_2D has the strides [0, 1]"),
    (strides_beyond_the_kernel, f"TRANSPOSE_CONV has strides beyond its kernel, {SO_ANOTHER}"),
    (a_small_addend, f"ADD has scales that XNNPACK refuses, {SO_ANOTHER}"),
    (another_scale("MAX_POOL_2D", "Pool2D", strideH=1, strideW=1, filterHeight=1, filterWidth=1),
     "MAX_POOL_2D changes the scale"),
    (a_reshape_to_another_scale, "RESHAPE changes the scale"),
    (dimensions_apart, "MEAN reduces dimensions that do not stand together"),
    (slopes_for_each_pixel, "PRELU has slopes of the shape [4, 4, 2]"),
    (a_difference_of_two, "SQUARED_DIFFERENCE of two values has no kernel"),
    (a_begin_that_is_computed, f"SLICE {UNKNOWN}"),
    (slices_that_are_computed, "GATHER needs 't1' before it runs"),
    (a_new_axis, "STRIDED_SLICE adds dimensions"),
    (a_concatenation_with_relu, "CONCATENATION has a fused activation"),
    (sixteen_bits, "TANH takes or gives INT16"),
    (a_shape_that_is_computed, f"RESHAPE {UNKNOWN}"),
)  # fmt: skip


@pytest.mark.parametrize(("build", "reason"), REASONS)
def test_what_is_not_exact_is_refused_with_its_reason(build: Build, reason: str) -> None:
    (found,) = partition(model_of(build)).reasons
    assert found.reason == reason


@pytest.mark.parametrize("build", [strides_beyond_the_kernel, a_small_addend, dimensions_apart,
                                   a_difference_of_two])  # fmt: skip
def test_what_is_refused_runs_on_the_cpu(build: Build) -> None:
    model = model_of(build)
    assert differing_bytes(model, [random_inputs(model)]) == 0


def test_an_option_that_is_left_out_is_zero() -> None:
    g = Int8Model()
    y = g.activation((2, *IMAGE[1:]))
    model = g.finish(g.op("CONCATENATION", [g.input(IMAGE), g.input(IMAGE)], y))
    assert partition(model).is_whole
