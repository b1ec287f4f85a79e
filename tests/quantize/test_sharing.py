"""Which activations share a scale, and which scale."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model, Quantization, indices
from tests.engines.op_case import FUSED, Graph
from tests.quantize.minmax import table_of

SHAPE = (1, 4)
Ranges = dict[str, tuple[float, float]]


def _parameters(model: Model, ranges: Ranges) -> dict[str, tuple[float, int]]:
    """Quantize; return scale and zero point by float name."""
    int8 = quantize(model, table_of(ranges)).model
    found = {}
    for index, name in enumerate(int8.names()):
        quantization: Quantization | None = int8.quantization(index)
        if quantization is not None and not int8.is_constant(index):
            step = float(quantization.scale[0]), int(quantization.zero_point[0])
            found[name.removesuffix("_int8")] = step
    return found


def _span(parameters: tuple[float, int]) -> tuple[float, float]:
    scale, zero_point = parameters
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def _leaky(g: Graph, source: int, name: str) -> int:
    return g.op("LEAKY_RELU", [source], (name, SHAPE), options="LeakyReluOptions", alpha=0.5)


def _concatenation() -> Model:
    """'a', 'b' -> LEAKY_RELU each -> CONCATENATION 'y'."""
    g = Graph({"a": SHAPE, "b": SHAPE})
    sources = [_leaky(g, t, f"m{i}") for i, t in enumerate(g.inputs)]
    return g.finish(
        g.op("CONCATENATION", sources, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )


def test_a_concatenation_shares_the_union_of_its_ranges() -> None:
    ranges: Ranges = {"a": (0, 1), "b": (0, 9), "m0": (-2, 1), "m1": (0, 9), "y": (-2, 9)}
    parameters = _parameters(_concatenation(), ranges)
    assert parameters["m0"] == parameters["m1"] == parameters["y"]
    low, high = _span(parameters["y"])
    assert (low, high) == (pytest.approx(-2, abs=0.03), pytest.approx(9, abs=0.03))
    assert parameters["a"] != parameters["b"]


def test_sharing_runs_through_chains_of_ops() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    greatest = g.op("MAXIMUM", g.inputs, ("m", SHAPE), options="MaximumMinimumOptions")
    flat = g.apply("RESHAPE", [greatest, g.integers([4])], (4,), options="ReshapeOptions")
    model = g.finish(g.op("REVERSE_V2", [flat, g.integers([0])], ("y", (4,))))
    name = model.names()[flat]
    ranges: Ranges = {"a": (-1, 0), "b": (0, 7), "m": (-1, 7), name: (-1, 7), "y": (-1, 7)}
    assert len(set(_parameters(model, ranges).values())) == 1


def test_arithmetic_shares_nothing() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    model = g.finish(g.op("ADD", g.inputs, ("y", SHAPE), options="AddOptions"))
    parameters = _parameters(model, {"a": (-1, 1), "b": (-2, 2), "y": (-3, 3)})
    assert len(set(parameters.values())) == 3


@pytest.mark.parametrize(
    ("op", "options", "expected"),
    [
        ("LOGISTIC", None, (1 / 256, -128)),
        ("SOFTMAX", "SoftmaxOptions", (1 / 256, -128)),
        ("TANH", None, (1 / 128, 0)),
        ("LOG_SOFTMAX", "LogSoftmaxOptions", (16 / 256, 127)),
        ("L2_NORMALIZATION", "L2NormOptions", (1 / 128, 0)),
    ],
)
def test_kernels_that_demand_an_output_scale_get_it(
    op: str, options: str | None, expected: tuple[float, int]
) -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(g.op(op, g.inputs, ("y", SHAPE), options=options))
    assert _parameters(model, {"x": (-4, 4), "y": (-0.3, 0.4)})["y"] == expected


def test_a_demanded_scale_that_covers_the_group_is_the_groups() -> None:
    g = Graph({"x": SHAPE})
    tanh = g.op("TANH", g.inputs, ("t", SHAPE))
    model = g.finish(g.apply("RESHAPE", [tanh, g.integers([4])], (4,), options="ReshapeOptions"))
    name = model.names()[model.outputs[0]]
    parameters = _parameters(model, {"x": (-4, 4), "t": (-0.9, 0.9), name: (-0.9, 0.9)})
    assert parameters["t"] == parameters[name] == (1 / 128, 0)


def test_a_demanded_scale_too_narrow_for_its_group_is_requantized() -> None:
    g = Graph({"x": SHAPE, "box": SHAPE})
    score, box = g.op("LOGISTIC", g.inputs[:1], ("s", SHAPE)), _leaky(g, g.inputs[1], "b")
    model = g.finish(
        g.op("CONCATENATION", [score, box], ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    ranges: Ranges = {"x": (-4, 4), "box": (0, 3), "s": (0, 1), "b": (0, 3), "y": (0, 3)}
    int8 = quantize(model, table_of(ranges)).model
    names = [int8.op_name(operator) for operator in int8.operators]
    assert names == ["QUANTIZE", "LOGISTIC", "QUANTIZE", "QUANTIZE", "LEAKY_RELU",
                     "CONCATENATION", "DEQUANTIZE"]  # fmt: skip
    requantize = int8.operators[2]
    before, after = (indices(t)[0] for t in (requantize.inputs, requantize.outputs))
    assert {int8.type_name(before), int8.type_name(after)} == {"INT8"}
    quantization = int8.quantization(before)
    assert quantization is not None
    assert quantization.scale[0] == 1 / 256


def test_two_demanded_scales_in_one_group_meet_in_the_union_of_their_ranges() -> None:
    g = Graph({"x": SHAPE})
    pair = [g.op("LOGISTIC", g.inputs, ("s", SHAPE)), g.op("TANH", g.inputs, ("t", SHAPE))]
    model = g.finish(
        g.op("CONCATENATION", pair, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    parameters = _parameters(model, {"x": (-4, 4), "s": (0, 1), "t": (-1, 1), "y": (-1, 1)})
    assert _span(parameters["y"]) == (pytest.approx(-1, abs=0.01), pytest.approx(1, abs=0.01))


@pytest.mark.parametrize(
    ("fused", "expected"),
    [(FUSED.RELU, (0, 9)), (FUSED.RELU6, (0, 6)), (FUSED.RELU_N1_TO_1, (-1, 1))],
)
def test_a_fused_activation_bounds_the_range(fused: int, expected: tuple[float, float]) -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    model = g.finish(
        g.op("ADD", g.inputs, ("y", SHAPE), options="AddOptions", fusedActivationFunction=fused)
    )
    parameters = _parameters(model, {"a": (-5, 5), "b": (-5, 5), "y": (-9, 9)})
    assert _span(parameters["y"]) == pytest.approx(expected, abs=0.01)


def _before_relu6(*, is_output: bool = False) -> Model:
    """'x' -> LEAKY_RELU 'm' -> RELU6 'y'."""
    g = Graph({"x": SHAPE})
    middle = _leaky(g, g.inputs[0], "m")
    clipped = g.op("RELU6", [middle], ("y", SHAPE))
    return g.finish(*([middle] if is_output else []), clipped)


def test_what_only_a_relu6_reads_takes_the_range_behind_it() -> None:
    ranges: Ranges = {"x": (-50, 50), "m": (-50, 50), "y": (0, 6)}
    parameters = _parameters(_before_relu6(), ranges)
    assert _span(parameters["m"]) == pytest.approx((0, 6), abs=0.01)
    assert "y" not in parameters  # int8 saturates where the RELU6 does: one tensor is both


def test_what_others_read_too_keeps_its_own_range() -> None:
    ranges: Ranges = {"x": (-50, 50), "m": (-50, 50), "y": (0, 6)}
    parameters = _parameters(_before_relu6(is_output=True), ranges)
    assert _span(parameters["m"])[0] == pytest.approx(-50, abs=0.3)


def test_constants_of_a_concatenation_widen_the_shared_range() -> None:
    g = Graph({"x": SHAPE})
    parts = [_leaky(g, g.inputs[0], "m"), g.floats(np.full(SHAPE, -2.0))]
    model = g.finish(
        g.op("CONCATENATION", parts, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    parameters = _parameters(model, {"x": (0, 1), "m": (0, 1), "y": (0, 1)})
    assert _span(parameters["y"])[0] == pytest.approx(-2, abs=0.01)


def test_a_far_bound_of_a_minimum_saturates_and_costs_no_steps() -> None:
    g = Graph({"x": SHAPE})
    inputs = [g.inputs[0], g.floats(1e30)]
    model = g.finish(g.op("MINIMUM", inputs, ("y", SHAPE), options="MaximumMinimumOptions"))
    parameters = _parameters(model, {"x": (-1, 1), "y": (-1, 1)})
    assert parameters["y"][0] == pytest.approx(2 / 255)
