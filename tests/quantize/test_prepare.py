"""Float16, INT8 and hybrid weights become float32 constants; quantized models are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import QuantizeError
from edgeq.quantize.affine import dequantize_values, quantize_values, symmetric_parameters
from edgeq.quantize.convert import quantize
from edgeq.quantize.prepare import constant_values, is_quantized, prepare
from edgeq.tflite.model import Model, Quantization
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.engines.op_case import Graph
from tests.quantize.minmax import minmax_table

SHAPE = (2, 4)
SAMPLES = [{"x": np.random.default_rng(i).normal(size=SHAPE).astype(np.float32)} for i in range(4)]


def _weights() -> tiny.Array:
    return np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def _fully_connected(g: Graph, weights: int) -> Model:
    inputs = [g.inputs[0], weights, g.bias(3)]
    return g.finish(
        g.op("FULLY_CONNECTED", inputs, ("y", (2, 3)), options="FullyConnectedOptions", version=3)
    )


def _behind_dequantize(type_name: str) -> Model:
    """'x' -> FULLY_CONNECTED with weights behind a DEQUANTIZE -> 'y'."""
    g = Graph({"x": SHAPE})
    values, quantization = _weights(), None
    if type_name == "INT8":
        quantization = symmetric_parameters(values)
        stored = quantize_values(values, quantization)
    else:
        stored = values.astype(np.float16)
    source = g.model.add_tensor("stored", values.shape, type_name, values=stored,
                                quantization=quantization)  # fmt: skip
    weights = g.op("DEQUANTIZE", [source], ("weights", values.shape), version=3)
    return _fully_connected(g, weights)


def _hybrid() -> Model:
    """'x' -> FULLY_CONNECTED with INT8 weights and float activations -> 'y'."""
    g = Graph({"x": SHAPE})
    quantization = symmetric_parameters(_weights())
    stored = quantize_values(_weights(), quantization)
    weights = g.model.add_tensor("weights", (3, 4), "INT8", values=stored,
                                 quantization=quantization)  # fmt: skip
    return _fully_connected(g, weights)


@pytest.mark.parametrize("type_name", ["FLOAT16", "INT8"])
def test_weights_behind_a_dequantize_are_folded(type_name: str) -> None:
    prepared = prepare(_behind_dequantize(type_name))
    model = prepared.model
    assert [model.op_name(op) for op in model.operators] == ["FULLY_CONNECTED"]
    assert prepared.positions == (1,)
    values = model.constant(model.names().index("weights"))
    assert values is not None
    np.testing.assert_allclose(values, _weights(), atol=0.02)


def test_hybrid_weights_become_float_with_the_values_they_stand_for() -> None:
    model = prepare(_hybrid()).model
    quantization = symmetric_parameters(_weights())
    expected = dequantize_values(quantize_values(_weights(), quantization), quantization)
    np.testing.assert_array_equal(constant_values(model, model.operators[0].inputs[1]), expected)


@pytest.mark.parametrize(
    "build", [lambda: _behind_dequantize("FLOAT16"), lambda: _behind_dequantize("INT8"), _hybrid],
    ids=["float16", "int8-dequantize", "hybrid"],
)  # fmt: skip
def test_folded_models_quantize_as_any_float_model(build: object) -> None:
    assert callable(build)
    model = build()
    quantized = quantize(model, minmax_table(model, SAMPLES))
    assert (quantized.int8_ops, quantized.float_ops) == (1, ())
    expected = Runner(model.to_bytes()).run(SAMPLES[0])["y"]
    actual = Runner(quantized.model.to_bytes()).run(SAMPLES[0])["y"]
    np.testing.assert_allclose(actual, expected, atol=0.05 * np.abs(expected).max())


def test_positions_of_kept_float_ops_are_those_of_the_given_model() -> None:
    model = _behind_dequantize("FLOAT16")
    quantized = quantize(model, minmax_table(model, SAMPLES), float_ops=frozenset({1}))
    assert quantized.is_float
    assert [(op.index, op.name) for op in quantized.float_ops] == [(1, "FULLY_CONNECTED")]


def test_a_float_model_is_not_quantized() -> None:
    assert not is_quantized(tiny.tiny_model())
    assert not is_quantized(_hybrid())
    assert not is_quantized(_behind_dequantize("INT8"))


def test_a_model_that_computes_on_integers_is_quantized() -> None:
    model = _hybrid()
    assert is_quantized(quantize(model, minmax_table(model, SAMPLES)).model)


def test_integer_inputs_without_scales_are_no_quantization() -> None:
    g = Graph({})
    image = g.model.add_tensor("image", SHAPE, "UINT8")
    g.inputs = [image]
    model = g.finish(g.op("CAST", [image], ("x", SHAPE), options="CastOptions"))
    assert not is_quantized(model)


def test_an_embedding_of_int8_rows_is_no_quantized_model() -> None:
    g = Graph({})
    one = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    values = np.ones((5, 4), np.int8)
    rows = g.model.add_tensor("rows", (5, 4), "INT8", values=values, quantization=one)
    ids = g.model.add_tensor("ids", (2,), "INT32")
    g.inputs = [ids]
    picked = g.op(
        "GATHER", [rows, ids], ("picked", SHAPE), type_name="INT8", options="GatherOptions"
    )
    g.model.set_quantization(picked, one)
    assert not is_quantized(g.finish(g.op("DEQUANTIZE", [picked], ("x", SHAPE), version=2)))


def test_values_the_file_does_not_hold_are_an_error_that_names_the_tensor() -> None:
    model = tiny.one_op_model()
    with pytest.raises(QuantizeError, match="'x' \\(FLOAT32\\) is no readable constant"):
        constant_values(model, 0)
