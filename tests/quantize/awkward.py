"""Models that are unlike a plain net in one way each, with the inputs that they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.quantize.affine import per_tensor, quantize_values, symmetric_parameters
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny
from tests.build_samples import sample
from tests.engines.op_case import Graph
from tests.tiny import Array

MAP = (1, 6, 6, 4)
ROW = (1, 4)
FREE = 5  # what a free extent is given
LAYER = {"padding": schema.Padding.SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1,
         "dilationWFactor": 1}  # fmt: skip


def samples(model: Model, count: int = 24, *, positive: bool = False) -> list[Sample]:
    """Return seeded samples of whatever the model takes."""
    draw = np.random.default_rng(1)
    specs = Runner(model.to_bytes()).inputs

    def value(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        extents = [FREE if extent < 0 else extent for extent in shape]
        if dtype != np.float32:
            return np.asarray(draw.integers(0, 10, extents), dtype)
        values = np.asarray(draw.normal(size=extents), dtype)
        return np.abs(values) if positive else values

    return [sample(**{s.name: value(s.shape, s.dtype) for s in specs}) for _ in range(count)]


def conv(g: Graph, x: int, shape: Sequence[int] = MAP) -> int:
    """Append a 3x3 convolution to as many channels as `shape` says."""
    channels = g.model.shape(x)[-1]
    inputs = [x, g.weights((shape[-1], 3, 3, channels), 0), g.bias(shape[-1])]
    return g.apply("CONV_2D", inputs, shape, options="Conv2DOptions", **LAYER)


def layer(g: Graph, x: int, out: int = 5) -> int:
    """Append a fully connected layer that keeps the leading dimensions."""
    *leading, channels = g.model.shape(x)
    inputs = [x, g.weights((out, channels), 0), g.bias(out)]
    return g.apply("FULLY_CONNECTED", inputs, (*leading, out), options="FullyConnectedOptions",
                   keepNumDims=len(leading) > 1, version=5)  # fmt: skip


def _of(type_name: str, shape: Sequence[int] = MAP) -> Graph:
    """Return a graph with one input 'x' of that type."""
    g = Graph({})
    g.inputs = [g.model.add_tensor("x", shape, type_name)]
    return g


# ---- weights and types


def float16_weights() -> Model:
    g, draw, parts = Graph({"x": MAP}), np.random.default_rng(0), []
    for name, shape in (("w", (8, 3, 3, 4)), ("b", (8,))):
        values = (draw.normal(size=shape) / 6).astype(np.float16)
        stored = g.model.add_tensor(f"{name}16", shape, "FLOAT16", values=values)
        parts.append(g.op("DEQUANTIZE", [stored], (name, shape), version=3))
    return g.finish(g.apply("CONV_2D", [0, *parts], (1, 6, 6, 8), options="Conv2DOptions", **LAYER))


def hybrid_weights() -> Model:
    g = Graph({"x": (1, 16)})
    values = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    parameters = symmetric_parameters(values)
    weights = g.model.add_tensor("w", (8, 16), "INT8", values=quantize_values(values, parameters),
                                 quantization=parameters)  # fmt: skip
    return g.finish(
        g.apply("FULLY_CONNECTED", [0, weights, g.bias(8)], (1, 8),
                options="FullyConnectedOptions", version=3)
    )  # fmt: skip


def integer_input() -> Model:
    g = _of("UINT8")
    options = {"options": "CastOptions", "inDataType": 3, "outDataType": 0}
    return g.finish(conv(g, g.apply("CAST", g.inputs, MAP, **options)))


def embedding() -> Model:
    g = _of("INT32", (1, 3))
    rows = g.floats(np.random.default_rng(0).normal(size=(10, 4)))
    picked = g.apply("GATHER", [rows, *g.inputs], (1, 3, 4), options="GatherOptions")
    return g.finish(layer(g, picked))


def int8_input() -> Model:
    g = _of("INT8")
    g.model.set_quantization(0, per_tensor(4 / 255, 0))
    return g.finish(conv(g, g.apply("DEQUANTIZE", g.inputs, MAP, version=2)))


def int8_island() -> Model:
    """Float layers around an op that computes in INT8 already."""
    g = Graph({"x": MAP})
    x = conv(g, 0)
    for name, parameters, version in (("QUANTIZE", (8 / 255, 0), 1), ("TANH", (1 / 128, 0), 2)):
        x = g.apply(name, [x], MAP, type_name="INT8", version=version)
        g.model.set_quantization(x, per_tensor(*parameters))
    return g.finish(conv(g, g.apply("DEQUANTIZE", [x], MAP, version=2)))


# ---- shapes


def one_place() -> Model:
    """1x1 maps, two output channels to each input of the depthwise layer."""
    g = Graph({"x": (1, 1, 1, 16)})
    x = conv(g, 0, (1, 1, 1, 8))
    inputs = [x, g.weights((1, 3, 3, 16), 3), g.bias(16)]
    x = g.apply("DEPTHWISE_CONV_2D", inputs, (1, 1, 1, 16), options="DepthwiseConv2DOptions",
                depthMultiplier=2, **LAYER)  # fmt: skip
    return g.finish(g.apply("MEAN", [x, g.integers([1, 2])], (1, 16), options="ReducerOptions"))


def scalars() -> Model:
    g = Graph({"x": ()})
    doubled = [g.apply("TANH", g.inputs, ()), g.floats(2.0)]
    return g.finish(g.apply("MUL", doubled, (), options="MulOptions"))


def five_dimensions() -> Model:
    g = Graph({"x": (1, 2, 3, 2, 4)})
    x = g.apply("MUL", [0, g.floats(0.3)], (1, 2, 3, 2, 4), options="MulOptions")
    return g.finish(g.apply("TRANSPOSE", [x, g.integers([0, 4, 1, 2, 3])], (1, 4, 2, 3, 2)))


def nothing_in_a_tensor() -> Model:
    g = Graph({"x": ROW})
    empty = g.model.add_tensor("empty", (0, 4), "FLOAT32")
    parts = [layer(g, 0, 4), empty]
    both = g.apply("CONCATENATION", parts, ROW, options="ConcatenationOptions", axis=0)
    return g.finish(layer(g, both))


def free_batch() -> Model:
    model = tiny.tiny_model()
    for tensor in model.tensors:
        if tensor.buffer == 0:
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    return model


def free_extents() -> Model:
    g = Graph({"x": (1, 1, 1, 4)})
    x = conv(g, 0, (1, 1, 1, 8))
    inputs = [x, g.integers([7, 7])]
    model = g.finish(
        g.apply("RESIZE_BILINEAR", inputs, (1, 7, 7, 8), options="ResizeBilinearOptions")
    )
    for tensor, channels in ((0, 4), (x, 8)):
        model.tensors[tensor].shapeSignature = np.array([1, -1, -1, channels], np.int32)
    return model


def segmentation(op: str = "RESIZE_BILINEAR") -> Model:
    """Classes per place, resized, behind a softmax."""
    g = Graph({"x": MAP})
    options = "ResizeBilinearOptions" if op == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    x = g.apply(op, [conv(g, 0), g.integers([24, 24])], (1, 24, 24, 4), options=options)
    return g.finish(g.apply("SOFTMAX", [x], (1, 24, 24, 4), options="SoftmaxOptions", beta=1.0))


# ---- values


def always_the_same() -> Model:
    """An activation that is 0 and one that is 2.5, whatever the input."""
    g = Graph({"x": MAP})
    zero = g.apply("MUL", [0, g.floats(0.0)], MAP, options="MulOptions")
    constant = g.apply("ADD", [zero, g.floats(2.5)], MAP, options="AddOptions")
    return g.finish(conv(g, g.apply("ADD", [constant, 0], MAP, options="AddOptions")))


def logarithm() -> Model:
    """NaN inside where an input is negative."""
    g = Graph({"x": MAP})
    return g.finish(conv(g, g.apply("LOG", g.inputs, MAP)))


# ---- names, inputs and outputs


def _named(name: bytes) -> Model:
    model = tiny.tiny_model()
    for tensor in model.tensors:
        tensor.name = name
    return model


def _with_output(find: Callable[[Model], int]) -> Model:
    model = tiny.tiny_model()
    model.graph.outputs = np.array([*model.outputs, find(model)], np.int32)
    return model


def _anchors(model: Model) -> int:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    return model.add_tensor("anchors", (2, 3), "FLOAT32", values=values)


def unused_input() -> Model:
    g = Graph({"x": ROW, "unused": ROW})
    return g.finish(layer(g, 0))


# ---- further graphs


def _branch(g: Graph, op_name: str) -> Any:
    graph = tiny.one_op_model(op_name, ROW).graph
    graph.operators[0].opcodeIndex = g.model.opcode_index(op_name, 1)
    return graph


def conditional() -> Model:
    g = Graph({"x": ROW})
    condition = g.model.add_tensor("condition", (1,), "BOOL", values=np.ones(1, np.bool_))
    chosen = g.apply("IF", [condition, layer(g, 0, 4)], ROW, options="IfOptions",
                     thenSubgraphIndex=1, elseSubgraphIndex=2)  # fmt: skip
    g.model.proto.subgraphs += [_branch(g, "NEG"), _branch(g, "COS")]
    return g.finish(layer(g, chosen))


def loop(rounds: int = 3) -> Model:
    """TANH, so many times, in a WHILE between two layers."""
    g = Graph({"x": ROW})
    count = g.integers([rounds])
    left, x = g.apply_many("WHILE", [count, layer(g, 0, 4)], [(1,), ROW], options="WhileOptions",
                           condSubgraphIndex=1, bodySubgraphIndex=2)  # fmt: skip
    g.model.tensors[left].type = schema.TensorType.INT32
    result = layer(g, x)
    condition, body = _subgraph(g.model), _subgraph(g.model)
    more = condition.add_tensor("more", (1,), "BOOL")
    zero = condition.add_tensor("zero", (1,), "INT32", values=np.zeros(1, np.int32))
    condition.operators.append(condition.make_operator("GREATER", 1, [0, zero], [more]))
    condition.graph.outputs = np.array([more], np.int32)
    less, y = body.add_tensor("less", (1,), "INT32"), body.add_tensor("y", ROW, "FLOAT32")
    one = body.add_tensor("one", (1,), "INT32", values=np.ones(1, np.int32))
    body.operators.append(body.make_operator("SUB", 1, [0, one], [less]))
    body.operators[0].builtinOptionsType = schema.BuiltinOptions.SubOptions
    body.operators[0].builtinOptions = schema.SubOptionsT()
    body.operators.append(body.make_operator("TANH", 1, [1], [y]))
    body.graph.outputs = np.array([less, y], np.int32)
    return g.finish(result)


def _subgraph(model: Model) -> Model:
    """Append a graph of a count and a row; return it."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    model.proto.subgraphs.append(graph)
    view = Model(model.proto, len(model.proto.subgraphs) - 1)
    inputs = [view.add_tensor("count", (1,), "INT32"), view.add_tensor("x", ROW, "FLOAT32")]
    graph.inputs = np.array(inputs, np.int32)
    return view


def lstm(steps: int = 5, units: int = 6) -> Model:
    """Layer, LSTM, layer over a sequence; the state lies in variable tensors."""
    g, draw = Graph({"x": (1, steps, 4)}), np.random.default_rng(0)

    def weights(*shape: int) -> list[int]:
        return [g.floats(draw.normal(size=shape) * 0.4) for _ in range(4)]

    states = [g.model.add_tensor(name, (1, units), "FLOAT32") for name in ("h", "c")]
    for state in states:
        g.model.tensors[state].isVariable = True
    own = [*weights(units, 4), *weights(units, units), -1, -1, -1, *weights(units), -1, -1]
    x = g.apply("UNIDIRECTIONAL_SEQUENCE_LSTM", [layer(g, 0, 4), *own, *states, -1, -1, -1, -1],
                (1, steps, units), options="UnidirectionalSequenceLSTMOptions",
                fusedActivationFunction=schema.ActivationFunctionType.TANH)  # fmt: skip
    return g.finish(layer(g, x, 3))


def running_sum() -> Model:
    """A layer over the sum of all inputs so far, which a resource variable holds."""
    g = Graph({"x": ROW})
    handle = _variable(g.model)
    before = g.apply("READ_VARIABLE", [handle], ROW)
    total = g.apply("ADD", [before, 0], ROW, options="AddOptions")
    g.model.operators.append(g.model.make_operator("ASSIGN_VARIABLE", 1, [handle, total], []))
    begin = _subgraph(g.model)
    begin.graph.inputs = None
    zeros = begin.add_tensor("zeros", ROW, "FLOAT32", values=np.zeros(ROW, np.float32))
    assigned = begin.make_operator("ASSIGN_VARIABLE", 1, [_variable(begin), zeros], [])
    begin.operators.append(assigned)
    once = g.model.make_operator("CALL_ONCE", 1, [], [])
    once.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
    once.builtinOptions = schema.CallOnceOptionsT()
    once.builtinOptions.initSubgraphIndex = 1
    g.model.operators.insert(0, once)
    return g.finish(layer(g, total))


def _variable(model: Model) -> int:
    handle = model.add_tensor("handle", (), "RESOURCE")
    operator = model.make_operator("VAR_HANDLE", 1, [], [handle])
    operator.builtinOptionsType = schema.BuiltinOptions.VarHandleOptions
    operator.builtinOptions = schema.VarHandleOptionsT()
    operator.builtinOptions.container, operator.builtinOptions.sharedName = b"", b"sum"
    model.operators.append(operator)
    return handle


def _signature(key: str, inputs: dict[str, int], outputs: dict[str, int], graph: int = 0) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key.encode(), graph
    for field, tensors in (("inputs", inputs), ("outputs", outputs)):
        entries = []
        for name, tensor in tensors.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), tensor
            entries.append(entry)
        setattr(signature, field, entries)
    return signature


def signatures() -> Model:
    """One graph under two signatures, and a second graph under a third."""
    model = tiny.tiny_model()
    image, scores, logits = 0, model.outputs[0], int(model.operators[-1].inputs[0])
    model.graph.outputs = np.array([scores, logits], np.int32)
    other = tiny.one_op_model("TANH", ROW).graph
    other.operators[0].opcodeIndex = model.opcode_index("TANH", 1)
    model.proto.subgraphs.append(other)
    model.proto.signatureDefs = [
        _signature("serving_default", {"image": image}, {"scores": scores}),
        _signature("logits", {"image": image}, {"logits": logits}),
        _signature("tanh", {"in": 0}, {"out": 1}, graph=1),
    ]
    return model


def custom_op(code: str = "MyOp") -> Model:
    """A layer, and behind it an op of somebody's own."""
    g = Graph({"x": MAP})
    model = g.finish(g.apply("NEG", [conv(g, 0)], MAP))
    own = schema.OperatorCodeT()
    own.builtinCode = own.deprecatedBuiltinCode = 32  # CUSTOM
    own.customCode, own.version = code.encode(), 1
    model.proto.operatorCodes.append(own)
    model.operators[-1].opcodeIndex = len(model.proto.operatorCodes) - 1
    return model


MODELS: dict[str, Callable[[], Model]] = {
    "float16 weights": float16_weights,
    "hybrid weights": hybrid_weights,
    "integer input": integer_input,
    "embedding": embedding,
    "int8 input": int8_input,
    "int8 island": int8_island,
    "one place": one_place,
    "scalars": scalars,
    "five dimensions": five_dimensions,
    "nothing in a tensor": nothing_in_a_tensor,
    "free batch": free_batch,
    "free extents": free_extents,
    "bilinear tail": segmentation,
    "nearest tail": lambda: segmentation("RESIZE_NEAREST_NEIGHBOR"),
    "always the same": always_the_same,
    "no names": lambda: _named(b""),
    "one name": lambda: _named(b"same"),
    "constant output": lambda: _with_output(_anchors),
    "weights as output": lambda: _with_output(lambda m: int(m.operators[0].inputs[1])),
    "input as output": lambda: _with_output(lambda m: m.inputs[0]),
    "one output twice": lambda: _with_output(lambda m: m.outputs[0]),
    "unused input": unused_input,
    "conditional": conditional,
    "loop": loop,
    "lstm": lstm,
    "signatures": signatures,
}
