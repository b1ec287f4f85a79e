"""Tiny float models, built op by op and seeded: what a test takes when any model will do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema

SCHEMA_VERSION = 3

Array = npt.NDArray[Any]


class GraphBuilder:
    """Builds one graph: constants and ops are appended in order; `finish` names the interface."""

    def __init__(self, inputs: dict[str, Sequence[int]], *, type_name: str = "FLOAT32") -> None:
        self.model = empty_model()
        self.inputs = [self.model.add_tensor(n, s, type_name) for n, s in inputs.items()]

    def constant(self, name: str, values: Array, type_name: str = "FLOAT32") -> int:
        """Append a constant; return its tensor index."""
        return self.model.add_tensor(name, values.shape, type_name, values=values)

    def op(
        self,
        op_name: str,
        inputs: Sequence[int],
        output: tuple[str, Sequence[int]],
        *,
        type_name: str = "FLOAT32",
        version: int = 1,
        options: str | None = None,
        **fields: Any,
    ) -> int:
        """Append an op with an options table, e.g. 'Conv2DOptions'; return its output."""
        result = self.model.add_tensor(output[0], output[1], type_name)
        operator = self.model.make_operator(op_name, version, inputs, [result])
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                assert hasattr(operator.builtinOptions, field), f"{options} has no {field}"
                setattr(operator.builtinOptions, field, value)
        self.model.operators.append(operator)
        return result

    def finish(self, *outputs: int) -> Model:
        """Name the graph's inputs and outputs; return the model as a file would give it."""
        self.model.graph.inputs = np.asarray(self.inputs, np.int32)
        self.model.graph.outputs = np.asarray(outputs, np.int32)
        return Model.from_bytes(self.model.to_bytes())


def empty_model() -> Model:
    """Return a model without tensors or ops; buffer 0 is the empty one, as the schema wants."""
    proto = schema.ModelT()
    proto.version = SCHEMA_VERSION
    proto.description = b"tiny"
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    graph.name = b"main"
    proto.subgraphs, proto.operatorCodes, proto.buffers = [graph], [], [schema.BufferT()]
    return Model(proto)


def tiny_model(seed: int = 0) -> Model:
    """Return conv -> relu -> depthwise -> pool -> fully connected -> softmax.

    'image' float32 [1, 8, 8, 3] -> 'scores' float32 [1, 4].
    """
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Array:
        return random.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

    g = GraphBuilder({"image": (1, 8, 8, 3)})
    kernel, bias = g.constant("conv/w", weights(6, 3, 3, 3)), g.constant("conv/b", weights(6) * 0.1)
    strides = {"padding": schema.Padding.SAME, "strideH": 1, "strideW": 1}
    x = g.op("CONV_2D", [0, kernel, bias], ("conv", (1, 8, 8, 6)), options="Conv2DOptions",
             **strides, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    x = g.op("RELU", [x], ("relu", (1, 8, 8, 6)))
    kernel, bias = g.constant("dw/w", weights(1, 3, 3, 6)), g.constant("dw/b", weights(6) * 0.1)
    x = g.op("DEPTHWISE_CONV_2D", [x, kernel, bias], ("dw", (1, 8, 8, 6)),
             options="DepthwiseConv2DOptions", **strides, depthMultiplier=1,
             dilationHFactor=1, dilationWFactor=1,
             fusedActivationFunction=schema.ActivationFunctionType.RELU6)  # fmt: skip
    x = g.op("AVERAGE_POOL_2D", [x], ("pool", (1, 2, 2, 6)), options="Pool2DOptions",
             padding=schema.Padding.VALID, strideH=4, strideW=4,
             filterHeight=4, filterWidth=4)  # fmt: skip
    shape = g.constant("flat/shape", np.array([1, 24], np.int32), "INT32")
    x = g.op("RESHAPE", [x, shape], ("flat", (1, 24)), options="ReshapeOptions",
             newShape=np.array([1, 24], np.int32))  # fmt: skip
    kernel, bias = g.constant("fc/w", weights(4, 24) * 4), g.constant("fc/b", weights(4))
    x = g.op("FULLY_CONNECTED", [x, kernel, bias], ("logits", (1, 4)),
             options="FullyConnectedOptions")  # fmt: skip
    return g.finish(g.op("SOFTMAX", [x], ("scores", (1, 4)), options="SoftmaxOptions", beta=1.0))


def one_op_model(op_name: str = "RELU", shape: Sequence[int] = (1, 4)) -> Model:
    """Return a model of one elementwise op without options: 'x' -> 'y', float32, same shape."""
    g = GraphBuilder({"x": shape})
    return g.finish(g.op(op_name, g.inputs, ("y", shape)))


def tiny_inputs(seed: int = 0) -> dict[str, Array]:
    """Return one input of `tiny_model`, standard normal."""
    random = np.random.default_rng(seed)
    return {"image": random.normal(size=(1, 8, 8, 3)).astype(np.float32)}


def endless_model(*, grows: bool = False) -> Model:
    """Return a WHILE without an end: 'x' -> 'y', float32 [1, 4]; its value may double each time."""
    g = GraphBuilder({"x": (1, 4)})
    for _ in range(2):
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = [], []
        g.model.proto.subgraphs.append(graph)
    condition, body = Model(g.model.proto, 1), Model(g.model.proto, 2)
    x = condition.add_tensor("x", (1, 4), "FLOAT32")
    each = condition.add_tensor("each", (1, 4), "BOOL")
    axes = condition.add_tensor("axes", (2,), "INT32", values=np.array([0, 1], np.int32))
    always = condition.add_tensor("always", (), "BOOL")
    reduce = condition.make_operator("REDUCE_ALL", 1, [each, axes], [always])
    reduce.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    reduce.builtinOptions = schema.ReducerOptionsT()
    equal = condition.make_operator("GREATER_EQUAL", 1, [x, x], [each])
    condition.operators.extend([equal, reduce])
    _interface(condition, x, always)
    x = body.add_tensor("x", (1, 4), "FLOAT32")
    y = body.add_tensor("y", (2, 4) if grows else (1, 4), "FLOAT32")
    step = body.make_operator(
        "CONCATENATION" if grows else "RELU", 1, [x, x] if grows else [x], [y]
    )
    if grows:
        step.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
        step.builtinOptions = schema.ConcatenationOptionsT()
    body.operators.append(step)
    _interface(body, x, y)
    return g.finish(g.op("WHILE", g.inputs, ("y", (1, 4)), options="WhileOptions",
                         condSubgraphIndex=1, bodySubgraphIndex=2))  # fmt: skip


def _interface(model: Model, given: int, returned: int) -> None:
    model.graph.inputs = np.array([given], np.int32)
    model.graph.outputs = np.array([returned], np.int32)
