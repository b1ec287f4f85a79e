from __future__ import annotations

import numpy as np

from edgeq.tflite.model import Model, indices
from edgeq.tflite.part import one_op, some_ops
from edgeq.tflite.runtime import Runner
from tests import tiny


def run_op_by_op(model: Model, inputs: dict[str, tiny.Array]) -> list[tiny.Array]:
    names = model.names()
    values = {tensor: inputs[names[tensor]] for tensor in model.inputs}
    for operator in model.operators:
        shapes = {t: values[t].shape for t in indices(operator.inputs) if t in values}
        part, fed = one_op(model, operator, shapes)
        runner = Runner(part.to_bytes())
        given = {spec.name: values[t] for t, spec in zip(fed, runner.inputs, strict=True)}
        values |= zip(indices(operator.outputs), runner.run(given).values(), strict=True)
    return [values[tensor] for tensor in model.outputs]


def test_the_ops_one_by_one_give_what_the_model_gives():
    model, inputs = tiny.tiny_model(), tiny.tiny_inputs()
    (expected,) = Runner(model.to_bytes()).run(inputs).values()
    (actual,) = run_op_by_op(model, inputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_model_cut_in_two_gives_what_the_whole_gives():
    model, inputs = tiny.tiny_model(), tiny.tiny_inputs()
    names = model.names()
    border = int(model.operators[2].outputs[0])
    shapes = {t: model.shape(t) for t in range(len(model.tensors))}
    count = len(model.operators)
    first = some_ops(model, range(3), model.inputs, [border], shapes=shapes, constants={})
    rest = some_ops(model, range(3, count), [border], model.outputs, shapes=shapes, constants={})
    between = Runner(first.to_bytes()).run(inputs)
    assert list(between) == [names[border]]
    actual = Runner(rest.to_bytes()).run(between)
    expected = Runner(model.to_bytes()).run(inputs)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-5)


def test_what_was_computed_beforehand_becomes_a_constant():
    g = tiny.GraphBuilder({"x": (1, 4)})
    known = g.op("NEG", [g.inputs[0]], ("known", (1, 4)))
    model = g.finish(g.op("ADD", [g.inputs[0], known], ("y", (1, 4)), options="AddOptions"))
    values = np.arange(4, dtype=np.float32).reshape(1, 4)
    part = some_ops(model, [1], model.inputs, model.outputs, shapes={}, constants={known: values})
    (y,) = Runner(part.to_bytes()).run({"x": np.ones((1, 4), np.float32)}).values()
    assert y.tolist() == [[1, 2, 3, 4]]


def test_subgraphs_that_an_op_calls_come_along():
    g = tiny.GraphBuilder({"x": (1, 4)})
    model = g.finish(g.op("NEG", g.inputs, ("y", (1, 4))))
    callee = model.graph.copy()
    callee.tensors[0].buffer = model.add_buffer(np.ones(4, np.float32))
    model.proto.subgraphs.append(callee)
    part = some_ops(model, [0], model.inputs, model.outputs, shapes={}, constants={})
    (_, kept) = part.subgraphs()
    constant = kept.constant(0)
    assert constant is not None
    assert constant.tolist() == [[1, 1, 1, 1]]


def test_the_model_stays_as_it_was():
    model = tiny.tiny_model()
    before = model.to_bytes()
    for operator in model.operators:
        data = indices(operator.inputs)[0]
        one_op(model, operator, {data: model.shape(data)})
    assert model.to_bytes() == before


def test_an_input_read_twice_is_fed_once():
    g = tiny.GraphBuilder({"x": (1, 4)})
    model = g.finish(g.op("ADD", [0, 0], ("twice", (1, 4)), options="AddOptions"))
    x = np.arange(4, dtype=np.float32)[np.newaxis]
    (actual,) = run_op_by_op(model, {"x": x})
    np.testing.assert_array_equal(actual, 2 * x)


def test_an_optional_input_that_is_left_out_stays_out():
    g = tiny.GraphBuilder({"x": (1, 2)})
    kernel = g.constant("w", np.eye(2, dtype=np.float32))
    y = g.op("FULLY_CONNECTED", [0, kernel, -1], ("y", (1, 2)), options="FullyConnectedOptions")
    x = np.array([[3, -4]], np.float32)
    np.testing.assert_array_equal(run_op_by_op(g.finish(y), {"x": x})[0], x)


def test_a_placeholder_shape_gives_way_to_the_real_one():
    """Converters write [1, 1] where a RESHAPE computes the shape at run time."""
    model = tiny.one_op_model("RELU", (1, 1))
    x = np.array([[-1, 2, 3]], np.float32)
    part, _ = one_op(model, model.operators[0], {model.inputs[0]: (1, 3)})
    np.testing.assert_array_equal(Runner(part.to_bytes()).run({"x": x})["y"], [[0, 2, 3]])


def test_scalars_between_ops_stay_scalars():
    """SHAPE -> STRIDED_SLICE to a scalar -> PACK with a constant, as UltraFace computes a shape."""
    g = tiny.GraphBuilder({"x": (2, 3)})
    ints = {
        name: g.constant(name, np.array([value], np.int32), "INT32")
        for name, value in {"begin": 1, "end": 2, "step": 1}.items()
    }
    shape = g.op("SHAPE", [0], ("shape", (2,)), type_name="INT32", options="ShapeOptions",
                 outType=2)  # fmt: skip
    width = g.op("STRIDED_SLICE", [shape, *ints.values()], ("width", ()), type_name="INT32",
                 options="StridedSliceOptions", shrinkAxisMask=1)  # fmt: skip
    two = g.constant("two", np.array(2, np.int32), "INT32")
    both = g.op("PACK", [two, width], ("both", (2,)), type_name="INT32", options="PackOptions",
                valuesCount=2, axis=0)  # fmt: skip
    (actual,) = run_op_by_op(g.finish(both), {"x": np.zeros((2, 3), np.float32)})
    assert actual.tolist() == [2, 3]
