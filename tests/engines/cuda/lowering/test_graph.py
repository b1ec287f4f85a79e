"""The graph has real shapes, folded integers and decoded options, and is checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeq.engines.cuda.lowering.graph import Graph, check, read
from edgeq.errors import EngineError
from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests.engines.cuda.int8_models import Grid, Int8Model

INT32 = schema.TensorType.INT32


def flattened_by_its_shape() -> Model:
    """x [2, 3, 4] -> SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE, said to be [1, 1] -> TANH."""
    g = Int8Model()
    x = g.input((2, 3, 4))
    shape, rows, packed = (g.activation(s, type_name="INT32") for s in ((3,), (), (2,)))
    g.op("SHAPE", [x], shape, "Shape", version=1, outType=INT32)
    ends = [g.constant([v]) for v in (0, 1, 1)]
    g.op("STRIDED_SLICE", [shape, *ends], rows, "StridedSlice", version=1, shrinkAxisMask=1)
    g.op("PACK", [rows, g.constant(12)], packed, "Pack", version=1, valuesCount=2, axis=0)
    flat, y = g.activation((1, 1)), g.activation((1, 1), Grid(1 / 128))
    g.op("RESHAPE", [x, packed], flat, "Reshape", version=1)
    g.op("TANH", [flat], y)
    return g.finish(y)


def two_ops() -> Graph:
    g = Int8Model()
    x = g.input((1, 4))
    y, z = g.activation((1, 4)), g.activation((1, 4))
    g.op("ABS", [x], y)
    g.op("ABS", [y], z)
    return read(g.finish(z))


def test_what_follows_from_shapes_is_folded_and_the_rest_gets_its_real_shape() -> None:
    graph = read(flattened_by_its_shape())
    assert [op.name for op in graph.ops] == ["RESHAPE", "TANH"]
    assert {graph.tensors[op.outputs[0]].shape for op in graph.ops} == {(2, 12)}
    folded = graph.tensors[graph.ops[0].inputs[1]].constant
    assert folded is not None
    assert folded.tolist() == [2, 12]


def test_a_folded_value_that_the_model_gives_out_keeps_its_op() -> None:
    g = Int8Model()
    x = g.input((2, 3))
    shape = g.activation((2,), type_name="INT32")
    g.op("SHAPE", [x], shape, "Shape", version=1, outType=INT32)
    assert [op.name for op in read(g.finish(shape)).ops] == ["SHAPE"]


def test_an_op_that_no_output_needs_is_left_out() -> None:
    g = Int8Model()
    x = g.input((1, 4))
    y, unused = g.activation((1, 4)), g.activation((1, 4))
    g.op("ABS", [x], unused)
    g.op("ABS", [x], y)
    assert [op.position for op in read(g.finish(y)).ops] == [1]


def test_a_shape_that_values_decide_is_not_believed_nor_any_that_follows() -> None:
    g = Int8Model()
    x, size = g.input((1, 4)), g.input((2,), type_name="INT32")
    y, z, other = (g.activation((1, 4)) for _ in range(3))
    g.op("RESHAPE", [x, size], y, "Reshape", version=1)
    g.op("ABS", [y], z)
    g.op("ABS", [x], other)
    graph = read(g.finish(z, other))
    assert [graph.tensors[t].is_fixed for t in (x, y, z, other)] == [True, False, False, True]


def test_what_counts_its_input_has_no_fixed_shape() -> None:
    g = Int8Model()
    x, y = g.input((4,), type_name="INT32"), g.activation((1, 1), type_name="INT32")
    g.op("WHERE", [x], y, "Where", version=1)
    assert not read(g.finish(y)).tensors[y].is_fixed


def test_options_are_decoded_with_their_defaults() -> None:
    g = Int8Model()
    x, y = g.input((1, 2, 2, 1)), g.activation((1, 2, 2, 1))
    g.op("CONV_2D", [x, g.weights((1, 1, 1, 1), 0), g.bias(1)], y, "Conv2D", strideH=3)
    (op,) = read(g.finish(y)).ops
    assert (op.options["strideH"], op.options["dilationHFactor"]) == (3, 1)


def test_a_free_extent_that_is_no_batch_is_refused() -> None:
    g = Int8Model()
    x, y = g.input((1, 1)), g.activation((1, 1))
    g.op("ABS", [x], y)
    g.model.tensors[x].shapeSignature = np.array([-1, 1], np.int32)
    assert read(g.finish(y)).ops
    g.model.tensors[x].shapeSignature = np.array([1, -1], np.int32)
    with pytest.raises(EngineError, match="only the batch may be free"):
        read(g.finish(y))


def test_a_tensor_with_many_scales_has_no_single_one() -> None:
    g = Int8Model()
    x, y, weights = g.input((1, 3)), g.activation((1, 2)), g.weights((2, 3), 0)
    g.op("FULLY_CONNECTED", [x, weights], y, "FullyConnected", version=4)
    tensor = read(g.finish(y)).tensors[weights]
    with pytest.raises(EngineError, match="no single scale"):
        _ = tensor.scale


def test_an_op_that_reads_too_early_is_found() -> None:
    graph = two_ops()
    with pytest.raises(EngineError, match="before it is written"):
        check(dataclasses.replace(graph, ops=graph.ops[::-1]))


def test_a_tensor_that_is_written_twice_is_found() -> None:
    graph = two_ops()
    again = dataclasses.replace(graph.ops[1], outputs=graph.ops[0].outputs)
    with pytest.raises(EngineError, match="has its values already"):
        check(dataclasses.replace(graph, ops=(graph.ops[0], again)))


def test_an_output_that_no_op_writes_is_found() -> None:
    graph = two_ops()
    with pytest.raises(EngineError, match="written by no op"):
        check(dataclasses.replace(graph, ops=graph.ops[:1]))


@pytest.mark.parametrize(("changes", "message"), [
    ({"shape": (1, -4)}, "has the shape"),
    ({"constant": np.zeros((2, 2), np.int8)}, "its tensor says"),
    ({"quantization": dataclasses.replace(two_ops().tensors[0].quantization,
                                          scale=np.zeros(1, np.float32))}, "not a positive number"),
])  # fmt: skip
def test_a_tensor_that_does_not_fit_is_found(changes: dict[str, object], message: str) -> None:
    graph = two_ops()
    tensors = (dataclasses.replace(graph.tensors[0], **changes), *graph.tensors[1:])
    with pytest.raises(EngineError, match=message):
        check(dataclasses.replace(graph, tensors=tensors))
