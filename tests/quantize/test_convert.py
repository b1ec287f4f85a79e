"""What the INT8 file looks like: borders, islands, names, shared constants, the interface."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import QuantizeError
from edgeq.quantize.convert import Quantized, quantize
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from edgeq.tflite.structure import check_structure
from tests import tiny
from tests.engines.op_case import Graph
from tests.quantize.minmax import minmax_table, table_of

SHAPE = (1, 4)


def _names(model: Model) -> list[str]:
    return [model.op_name(operator) for operator in model.operators]


def _samples(model: Model, count: int = 8) -> list[dict[str, tiny.Array]]:
    random = np.random.default_rng(5)
    specs = Runner(model.to_bytes()).inputs
    return [
        {s.name: random.normal(size=s.shape).astype(s.dtype) for s in specs} for _ in range(count)
    ]


def _quantized(model: Model, float_ops: frozenset[int] = frozenset()) -> Quantized:
    quantized = quantize(model, minmax_table(model, _samples(model)), float_ops=float_ops)
    check_structure(quantized.model)
    return quantized


def _assert_close(model: Model, quantized: Quantized, tolerance: float = 0.05) -> None:
    """Both kernel sets give what the float model gives, under the same names and shapes."""
    expected_of = Runner(model.to_bytes())
    for delegate in (True, False):
        runner = Runner(quantized.model.to_bytes(), delegate=delegate)
        assert runner.inputs == expected_of.inputs
        assert runner.outputs == expected_of.outputs
        for sample in _samples(model, 3):
            expected, actual = expected_of.run(sample), runner.run(sample)
            for name, values in expected.items():
                span = max(float(np.abs(values).max()), 1e-6)
                assert np.abs(actual[name] - values).max() <= tolerance * span


def _relu_chain(count: int) -> Model:
    """'x' -> LEAKY_RELU * count -> 'y'."""
    g = Graph({"x": SHAPE})
    tensor = g.inputs[0]
    for index in range(count):
        name = "y" if index == count - 1 else f"t{index}"
        tensor = g.op("LEAKY_RELU", [tensor], (name, SHAPE), options="LeakyReluOptions", alpha=0.5)
    return g.finish(tensor)


def test_the_tiny_model_becomes_int8_between_one_quantize_and_one_dequantize() -> None:
    model = tiny.tiny_model()
    quantized = _quantized(model)
    names = _names(quantized.model)
    assert names[0] == "QUANTIZE"
    assert names[-1] == "DEQUANTIZE"
    assert names[1:-1] == [name for name in _names(model) if name != "RELU"]  # int8 saturates there
    assert quantized.int8_ops == len(model.operators)
    assert quantized.float_ops == ()
    assert not quantized.is_float
    _assert_close(model, quantized)


def test_the_given_model_is_not_changed() -> None:
    model = tiny.tiny_model()
    before = model.to_bytes()
    _quantized(model)
    assert model.to_bytes() == before


def test_the_file_holds_no_float_weights() -> None:
    model = tiny.tiny_model()
    quantized = _quantized(model).model
    constants = [i for i in range(len(quantized.tensors)) if quantized.is_constant(i)]
    assert {quantized.type_name(i) for i in constants} == {"INT8", "INT32"}
    assert len(quantized.to_bytes()) < len(model.to_bytes()) + 1200
    assert quantized.proto.buffers[0].data is None or not len(quantized.proto.buffers[0].data)


def test_int8_twins_are_named_after_their_float_tensors() -> None:
    quantized = _quantized(tiny.tiny_model()).model
    names = set(quantized.names())
    assert {"image", "image_int8", "conv_int8", "scores_int8", "scores"} <= names
    assert {"conv/w_int8", "conv/b_int32"} <= names
    assert "conv" not in names


def test_an_op_asked_to_stay_float_becomes_an_island() -> None:
    model = _relu_chain(4)
    quantized = _quantized(model, frozenset({2}))
    assert _names(quantized.model) == [
        "QUANTIZE", "LEAKY_RELU", "LEAKY_RELU", "DEQUANTIZE", "LEAKY_RELU", "QUANTIZE",
        "LEAKY_RELU", "DEQUANTIZE",
    ]  # fmt: skip
    assert [(op.index, op.name) for op in quantized.float_ops] == [(2, "LEAKY_RELU")]
    assert quantized.float_ops[0].reason == "asked to stay float"
    _assert_close(model, quantized)


def test_neighbouring_float_ops_share_one_island() -> None:
    quantized = _quantized(_relu_chain(4), frozenset({1, 2}))
    assert _names(quantized.model).count("QUANTIZE") == 2
    assert _names(quantized.model).count("DEQUANTIZE") == 2


def test_with_every_op_asked_float_the_model_is_the_given_one() -> None:
    model = _relu_chain(2)
    quantized = _quantized(model, frozenset({0, 1}))
    assert quantized.is_float
    assert quantized.model.to_bytes() == model.to_bytes()
    assert len(quantized.float_ops) == 2


def test_an_op_without_an_int8_kernel_stays_float() -> None:
    g = Graph({"x": SHAPE})
    first = g.op("LEAKY_RELU", g.inputs, ("a", SHAPE), options="LeakyReluOptions", alpha=0.5)
    second = g.op("COS", [first], ("b", SHAPE))
    model = g.finish(
        g.op("LEAKY_RELU", [second], ("y", SHAPE), options="LeakyReluOptions", alpha=0.5)
    )
    quantized = _quantized(model)
    assert [(op.index, op.name) for op in quantized.float_ops] == [(1, "COS")]
    assert quantized.float_ops[0].reason == "it has no INT8 kernel"
    _assert_close(model, quantized)


def test_an_op_whose_tensor_has_no_range_stays_float() -> None:
    quantized = quantize(_relu_chain(3), table_of({"x": (-1, 1), "t0": (-1, 1), "y": (-1, 1)}))
    assert [op.index for op in quantized.float_ops] == [1, 2]
    assert "no range was calibrated for tensor 't1'" in quantized.float_ops[0].reason


@pytest.mark.parametrize("bad", [(np.nan, 1.0), (-np.inf, 1.0), (1.0, -1.0), (-3.4e38, 1.0)])
def test_an_unusable_range_counts_as_none(bad: tuple[float, float]) -> None:
    quantized = quantize(_relu_chain(2), table_of({"x": (-1, 1), "t0": (-1, 1), "y": bad}))
    assert [op.index for op in quantized.float_ops] == [1]


def test_a_tensor_that_many_ops_read_is_quantized_once() -> None:
    g = Graph({"x": SHAPE})
    float_island = g.op("COS", g.inputs, ("c", SHAPE))
    results = [
        g.op("LEAKY_RELU", [float_island], (f"y{i}", SHAPE), options="LeakyReluOptions", alpha=0.5)
        for i in range(3)
    ]
    model = g.finish(*results)
    quantized = _quantized(model)
    assert _names(quantized.model).count("QUANTIZE") == 1
    assert _names(quantized.model).count("DEQUANTIZE") == 3
    _assert_close(model, quantized)


def test_an_output_that_ops_read_too_stays_int8_inside() -> None:
    g = Graph({"x": SHAPE})
    middle = g.op("LEAKY_RELU", g.inputs, ("m", SHAPE), options="LeakyReluOptions", alpha=0.5)
    last = g.op("TANH", [middle], ("y", SHAPE))
    model = g.finish(middle, last)
    quantized = _quantized(model)
    assert _names(quantized.model) == [
        "QUANTIZE", "LEAKY_RELU", "TANH", "DEQUANTIZE", "DEQUANTIZE",
    ]  # fmt: skip
    _assert_close(model, quantized)


def test_an_input_that_is_an_output_too_passes_through_exactly() -> None:
    g = Graph({"x": SHAPE})
    result = g.op("LEAKY_RELU", g.inputs, ("y", SHAPE), options="LeakyReluOptions", alpha=0.5)
    model = g.finish(g.inputs[0], result)
    quantized = _quantized(model)
    sample = _samples(model)[0]
    actual = Runner(quantized.model.to_bytes()).run(sample)
    np.testing.assert_array_equal(actual["x"], sample["x"])


def test_several_inputs_and_outputs_keep_names_and_order() -> None:
    g = Graph({"b": SHAPE, "a": SHAPE})
    total = g.op("ADD", g.inputs, ("sum", SHAPE), options="AddOptions")
    difference = g.op("SUB", g.inputs, ("difference", SHAPE), options="SubOptions")
    model = g.finish(difference, total)
    _assert_close(model, _quantized(model))


def test_outputs_with_the_same_name_keep_their_unique_names() -> None:
    g = Graph({"x": SHAPE})
    options = {"options": "LeakyReluOptions"}
    first = g.op("LEAKY_RELU", g.inputs, ("y", SHAPE), alpha=0.5, **options)
    second = g.op("LEAKY_RELU", [first], ("y", SHAPE), alpha=0.2, **options)
    model = g.finish(first, second)
    _assert_close(model, _quantized(model))


def test_one_constant_becomes_a_copy_per_scale_it_needs() -> None:
    g = Graph({"x": SHAPE, "wide": SHAPE})
    weights, bias = g.weights((4, 4), 0), g.bias(4)
    options = {"options": "FullyConnectedOptions"}
    results = [
        g.op("FULLY_CONNECTED", [x, weights, bias], (f"y{i}", SHAPE), **options)
        for i, x in enumerate([*g.inputs, g.inputs[0]])
    ]
    model = g.finish(*results)
    ranges = {"x": (-1, 1), "wide": (-50, 50), "y0": (-9, 9), "y1": (-99, 99), "y2": (-9, 9)}
    quantized = quantize(model, table_of(ranges)).model
    operators = [op for op in quantized.operators if quantized.op_name(op) == "FULLY_CONNECTED"]
    first, wide, again = (indices(operator.inputs) for operator in operators)
    assert first[1] == wide[1] == again[1]  # weights do not depend on the input's scale
    assert first[2] == again[2] != wide[2]  # biases do


def test_an_already_quantized_model_is_refused_with_a_hint() -> None:
    model = tiny.tiny_model()
    int8 = _quantized(model).model
    with pytest.raises(QuantizeError, match="already exchange integers") as caught:
        quantize(int8, table_of({}))
    assert caught.value.hint


def test_integer_and_shape_ops_pass_through() -> None:
    g = Graph({"x": (1, 6, 6, 4)})
    pooled = g.apply("MAX_POOL_2D", g.inputs, (1, 6, 6, 4), options="Pool2DOptions", strideH=1,
                     strideW=1, filterHeight=1, filterWidth=1)  # fmt: skip
    shape = g.op("SHAPE", [pooled], ("shape", (4,)), type_name="INT32", options="ShapeOptions",
                 outType=schema.TensorType.INT32)  # fmt: skip
    begin, end, step = g.integers([0]), g.integers([1]), g.integers([1])
    batch = g.op("STRIDED_SLICE", [shape, begin, end, step], ("batch", ()), type_name="INT32",
                 options="StridedSliceOptions", shrinkAxisMask=1)  # fmt: skip
    packed = g.op("PACK", [batch, g.integers(-1)], ("packed", (2,)), type_name="INT32",
                  options="PackOptions", valuesCount=2)  # fmt: skip
    model = g.finish(g.op("RESHAPE", [pooled, packed], ("y", (1, 144)), options="ReshapeOptions"))
    quantized = _quantized(model)
    assert quantized.float_ops == ()
    assert _names(quantized.model) == ["QUANTIZE", *_names(model), "DEQUANTIZE"]
    _assert_close(model, quantized)


def test_free_extents_stay_free() -> None:
    model = _relu_chain(1)
    for tensor in model.tensors:
        tensor.shapeSignature = np.array([-1, 4], np.int32)
    quantized = _quantized(model).model
    assert {tuple(tensor.shapeSignature) for tensor in quantized.tensors} == {(-1, 4)}


def test_ops_that_only_move_floats_are_left_alone() -> None:
    g = Graph({"x": SHAPE})
    flat = g.apply("RESHAPE", [g.inputs[0], g.integers([4])], (4,), options="ReshapeOptions")
    model = g.finish(g.op("COS", [flat], ("y", (4,))))
    quantized = _quantized(model)
    assert quantized.is_float
    assert [op.name for op in quantized.float_ops] == ["RESHAPE", "COS"]


def test_weights_computed_at_run_time_keep_the_op_float() -> None:
    g = Graph({"x": (2, 4), "w": (3, 4)})
    model = g.finish(
        g.op("FULLY_CONNECTED", [*g.inputs, -1], ("y", (2, 3)), options="FullyConnectedOptions")
    )
    quantized = _quantized(model)
    assert quantized.float_ops[0].reason == "its weights are computed at run time"


def test_an_output_narrower_than_one_step_of_the_product_keeps_the_op_float() -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(
        g.op("FULLY_CONNECTED", [g.inputs[0], g.weights((4, 4), 0), g.bias(4)], ("y", SHAPE),
             options="FullyConnectedOptions", fusedActivationFunction=1)
    )  # fmt: skip
    quantized = quantize(model, table_of({"x": (-1e4, 1e4), "y": (0, 1e-6)}))
    assert "narrower than one step" in quantized.float_ops[0].reason


def test_a_product_step_beyond_the_outputs_takes_mul_version_3() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    model = g.finish(g.op("MUL", g.inputs, ("y", SHAPE), options="MulOptions"))
    versions = []
    for high in (1e6, 10.0):
        quantized = quantize(model, table_of({"a": (0, 255), "b": (0, 255), "y": (0, high)})).model
        operator = next(op for op in quantized.operators if quantized.op_name(op) == "MUL")
        versions.append(quantized.proto.operatorCodes[operator.opcodeIndex].version)
    assert versions == [2, 3]


def _clipped(op: str, *, is_shown: bool) -> Model:
    """'x' -> TANH 'm' (an output where it is shown) -> op 'y' -> LEAKY_RELU 'z'."""
    g = Graph({"x": SHAPE})
    middle = g.op("TANH", g.inputs, ("m", SHAPE))
    clipped = g.op(op, [middle], ("y", SHAPE))
    last = g.op("LEAKY_RELU", [clipped], ("z", SHAPE), options="LeakyReluOptions", alpha=0.5)
    return g.finish(*([middle] if is_shown else []), last)


@pytest.mark.parametrize("op", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_a_relu_of_its_own_is_where_int8_saturates(op: str) -> None:
    g = Graph({"x": SHAPE})
    middle = g.op("LEAKY_RELU", g.inputs, ("m", SHAPE), options="LeakyReluOptions", alpha=0.5)
    model = g.finish(g.op("ABS", [g.op(op, [middle], ("c", SHAPE))], ("y", SHAPE)))
    quantized = _quantized(model)
    assert _names(quantized.model) == ["QUANTIZE", "LEAKY_RELU", "ABS", "DEQUANTIZE"]
    _assert_close(model, quantized)


@pytest.mark.parametrize("op", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_where_others_read_what_a_relu_clips_a_requantization_does_it(op: str) -> None:
    model = _clipped(op, is_shown=True)
    quantized = _quantized(model)
    assert op not in _names(quantized.model)
    _assert_close(model, quantized)


def test_where_its_scale_must_reach_further_a_relu_is_a_maximum() -> None:
    g = Graph({"x": SHAPE})
    middle = g.op("LEAKY_RELU", g.inputs, ("m", SHAPE), options="LeakyReluOptions", alpha=0.5)
    parts = [middle, g.op("RELU", [middle], ("c", SHAPE))]
    both = g.op("CONCATENATION", parts, ("b", (1, 8)), options="ConcatenationOptions", axis=1)
    model = g.finish(g.op("LEAKY_RELU", [both], ("y", (1, 8)), options="LeakyReluOptions",
                          alpha=0.5))  # fmt: skip
    quantized = _quantized(model)
    assert _names(quantized.model) == [
        "QUANTIZE", "LEAKY_RELU", "MAXIMUM", "CONCATENATION", "LEAKY_RELU", "DEQUANTIZE",
    ]  # fmt: skip
    _assert_close(model, quantized)


def test_a_relu_between_float_ops_is_left_alone() -> None:
    g = Graph({"x": SHAPE})
    clipped = g.op("RELU", [g.op("COS", g.inputs, ("m", SHAPE))], ("y", SHAPE))
    assert _quantized(g.finish(g.op("COS", [clipped], ("z", SHAPE)))).is_float


def _branch(op_name: str, model: Model) -> object:
    """Return a subgraph of one op, its constants and codes in `model`."""
    code = model.opcode_index(op_name, 1)
    graph = tiny.one_op_model(op_name, SHAPE).graph
    graph.operators[0].opcodeIndex = code
    return graph


def test_control_flow_keeps_floats_and_its_subgraphs() -> None:
    g = Graph({"x": SHAPE})
    first = g.op("LEAKY_RELU", g.inputs, ("a", SHAPE), options="LeakyReluOptions", alpha=0.5)
    condition = g.model.add_tensor("condition", (1,), "BOOL", values=np.ones(1, np.bool_))
    chosen = g.op("IF", [condition, first], ("b", SHAPE), options="IfOptions",
                  thenSubgraphIndex=1, elseSubgraphIndex=2)  # fmt: skip
    last = g.op("LEAKY_RELU", [chosen], ("y", SHAPE), options="LeakyReluOptions", alpha=0.5)
    g.model.proto.subgraphs += [_branch("NEG", g.model), _branch("COS", g.model)]
    model = g.finish(last)
    ranges = {"x": (-3, 3), "a": (-2, 3), "b": (-3, 2), "y": (-2, 2)}
    quantized = quantize(model, table_of(ranges))
    assert [op.name for op in quantized.float_ops] == ["IF"]
    assert _names(quantized.model) == [
        "QUANTIZE", "LEAKY_RELU", "DEQUANTIZE", "IF", "QUANTIZE", "LEAKY_RELU", "DEQUANTIZE",
    ]  # fmt: skip
    _assert_close(model, quantized)
