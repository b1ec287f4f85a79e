"""Small nets that join tensors of very different ranges, and how far INT8 is from float on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flatbuffers import flexbuffers

from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny
from tests.engines.op_case import Graph

EXTENT, CHANNELS, CLASSES = 6, 8, 4
PLACES = EXTENT * EXTENT
IMAGE = (1, EXTENT, EXTENT, 3)


class Net(tiny.GraphBuilder):
    """A GraphBuilder with the layers of a small net; 'stem' is its first."""

    def __init__(self) -> None:
        super().__init__({"image": IMAGE})
        self._draw = np.random.default_rng(0)
        self.stem = self.conv(0, 3, CHANNELS, "stem", fused=1)

    def conv(
        self, x: int, channels: int, out: int, name: str, *, gain: float = 1.0, fused: int = 0
    ) -> int:
        """Append a 1x1 convolution whose outputs are about `gain` times its inputs."""
        weights = self._draw.normal(size=(out, 1, 1, channels)) * gain / channels**0.5
        kernel = self.constant(f"{name}/w", weights.astype(np.float32))
        bias = self.constant(f"{name}/b", np.zeros(out, np.float32))
        return self.op("CONV_2D", [x, kernel, bias], (name, (1, EXTENT, EXTENT, out)),
                       options="Conv2DOptions", padding=schema.Padding.SAME, strideH=1, strideW=1,
                       dilationHFactor=1, dilationWFactor=1,
                       fusedActivationFunction=fused)  # fmt: skip

    def flat(self, x: int, channels: int, name: str) -> int:
        """Append a RESHAPE to one row per place."""
        shape = (1, PLACES, channels)
        target = np.array(shape, np.int32)
        return self.op("RESHAPE", [x, self.constant(f"{name}/shape", target, "INT32")],
                       (name, shape), options="ReshapeOptions", newShape=target)  # fmt: skip

    def joined(self, parts: list[int], shape: tuple[int, ...], name: str = "joined") -> int:
        """Append a CONCATENATION along the last dimension."""
        return self.op("CONCATENATION", parts, (name, shape), options="ConcatenationOptions",
                       axis=len(shape) - 1)  # fmt: skip

    def branches(self, *, boxes: float) -> tuple[int, int]:
        """Append a branch of boxes this wide and one of class logits, a row per place."""
        box = self.conv(self.stem, CHANNELS, 4, "box", gain=boxes)
        logits = self.conv(self.stem, CHANNELS, CLASSES, "class")
        return self.flat(box, 4, "boxes"), self.flat(logits, CLASSES, "logits")


def detector(boxes: float = 50.0) -> Model:
    """Return a head that gives boxes and scores as one output, channels first, as YOLO's do."""
    g = Net()
    rows, logits = g.branches(boxes=boxes)
    scores = g.op("LOGISTIC", [logits], ("scores", (1, PLACES, CLASSES)))
    both = g.joined([rows, scores], (1, PLACES, 4 + CLASSES))
    order = g.constant("order", np.array([0, 2, 1], np.int32), "INT32")
    return g.finish(
        g.op("TRANSPOSE", [both, order], ("y", (1, 4 + CLASSES, PLACES)),
             options="TransposeOptions")
    )  # fmt: skip


def joined_then_split() -> Model:
    """Return a head that joins boxes and logits and splits them again, as newer YOLOs do."""
    g = Net()
    both = g.joined([*g.branches(boxes=50.0)], (1, PLACES, 4 + CLASSES))
    sizes = g.constant("sizes", np.array([4, CLASSES], np.int32), "INT32")
    axis = g.constant("axis", np.array(2, np.int32), "INT32")
    boxes = g.op("SPLIT_V", [both, sizes, axis], ("boxes_again", (1, PLACES, 4)),
                 options="SplitVOptions", numSplits=2)  # fmt: skip
    logits = g.model.add_tensor("logits_again", (1, PLACES, CLASSES), "FLOAT32")
    g.model.operators[-1].outputs = np.array([boxes, logits], np.int32)
    scores = g.op("LOGISTIC", [logits], ("scores", (1, PLACES, CLASSES)))
    bins = g.op("SOFTMAX", [boxes], ("bins", (1, PLACES, 4)), options="SoftmaxOptions", beta=1.0)
    return g.finish(bins, scores)


def with_suppression(best: int = 10) -> Model:
    """Return a head whose boxes and scores a custom op of the runtime sorts and thins out."""
    g = Net()
    boxes, logits = g.branches(boxes=1.0)
    scores = g.op("LOGISTIC", [logits], ("scores", (1, PLACES, CLASSES)))
    draw = np.random.default_rng(1)
    corners = np.concatenate([draw.uniform(0, 1, (PLACES, 2)), np.full((PLACES, 2), 0.2)], axis=1)
    anchors = g.constant("anchors", corners.astype(np.float32))
    shapes = {"boxes": (1, best, 4), "classes": (1, best), "scores": (1, best), "count": (1,)}
    results = [g.model.add_tensor(f"best_{n}", s, "FLOAT32") for n, s in shapes.items()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
    code.customCode, code.version = b"TFLite_Detection_PostProcess", 1
    g.model.proto.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(g.model.proto.operatorCodes) - 1
    operator.inputs = np.array([boxes, scores, anchors], np.int32)
    operator.outputs = np.array(results, np.int32)
    operator.customOptions = np.frombuffer(_suppression_options(best), np.uint8)
    g.model.operators.append(operator)
    return g.finish(*results)


def _suppression_options(best: int) -> bytes:
    options = flexbuffers.Builder()
    with options.Map():
        options.Int("max_detections", best)
        options.Int("max_classes_per_detection", 1)
        options.Int("num_classes", CLASSES - 1)  # without the background
        options.Float("nms_score_threshold", 0.1)
        options.Float("nms_iou_threshold", 0.5)
        for axis in "yxhw":
            options.Float(f"{axis}_scale", 5.0)
    return bytes(options.Finish())


def skip_connection(gain: float = 100.0) -> Model:
    """Return a net whose stem is read by a layer, and beside a much wider tensor by another."""
    g = Net()
    wide = g.conv(g.stem, CHANNELS, CHANNELS, "wide", gain=gain)
    both = g.joined([g.stem, wide], (1, EXTENT, EXTENT, 2 * CHANNELS))
    last = g.conv(both, 2 * CHANNELS, 4, "last", gain=1 / gain)
    return g.finish(last, g.conv(g.stem, CHANNELS, 4, "fine"))


def inception(gain: float = 30.0) -> Model:
    """Return two branches, one much wider, of which one layer reads both alike."""
    g = Net()
    parts = [
        g.conv(g.stem, CHANNELS, CHANNELS, f"branch{i}", gain=wide, fused=1)
        for i, wide in enumerate((1.0, gain))
    ]
    both = g.joined(parts, (1, EXTENT, EXTENT, 2 * CHANNELS))
    last = g.conv(both, 2 * CHANNELS, 4, "last")
    weights = np.array(g.model.constant(g.model.operators[-1].inputs[1]))
    weights[..., CHANNELS:] /= gain
    kernel = g.constant("balanced/w", weights)
    g.model.operators[-1].inputs[1] = kernel
    return g.finish(last)


def inputs(count: int, first: int = 0) -> list[dict[str, tiny.Array]]:
    """Return images, each from its own seed."""
    return [
        {"image": np.random.default_rng(seed).normal(size=IMAGE).astype(np.float32)}
        for seed in range(first, first + count)
    ]


def signal_to_noise_db(
    model: Model,
    int8: Model,
    part: Callable[[dict[str, tiny.Array]], tiny.Array],
    *,
    delegate: bool = True,
) -> float:
    """Return the SQNR of a part of the outputs, on images that calibration has not seen."""
    runners = Runner(model.to_bytes()), Runner(int8.to_bytes(), delegate=delegate)
    expected, actual = (
        np.stack([part(runner.run(given)) for given in inputs(8, first=100)]).astype(np.float64)
        for runner in runners
    )
    return float(10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum()))


def drawn_net(draw: np.random.Generator, length: int) -> Model:
    """Return a net of ops that join, part, move and compute, at scales of 0.001 to 1000."""
    g = Graph({"a": (1, 8), "b": (1, 8)})
    pool = list(g.inputs)
    for _ in range(length):
        first, second = (int(t) for t in draw.choice(pool, 2))
        _append(g, pool, str(draw.choice(STEPS)), first, second, float(draw.uniform(-3, 3)))
    read = {int(t) for operator in g.model.operators for t in operator.inputs}
    return g.finish(*[t for t in pool if t not in read and t not in g.inputs])


STEPS = ("scale", "tanh", "layer", "join", "part", "reverse", "maximum", "with constant")


def _append(g: Graph, pool: list[int], step: str, x: int, other: int, power: float) -> None:
    width = g.model.shape(x)[1]
    options, constant = {"options": "ConcatenationOptions", "axis": 1}, g.floats(10.0**power)
    if step == "scale":
        pool.append(g.apply("MUL", [x, constant], (1, width), options="MulOptions"))
    elif step == "tanh":
        pool.append(g.apply("TANH", [x], (1, width)))
    elif step == "layer":
        inputs = [x, g.weights((8, width), 0), g.bias(8)]
        pool.append(g.apply("FULLY_CONNECTED", inputs, (1, 8), options="FullyConnectedOptions"))
    elif step == "join":
        pool.append(g.apply("CONCATENATION", [x, other],
                            (1, width + g.model.shape(other)[1]), **options))  # fmt: skip
    elif step == "part" and width % 2 == 0:
        pool += g.apply_many("SPLIT", [g.integers(1), x], [(1, width // 2)] * 2,
                             options="SplitOptions", numSplits=2)  # fmt: skip
    elif step == "reverse":
        pool.append(g.apply("REVERSE_V2", [x, g.integers([1])], (1, width)))
    elif step == "maximum" and g.model.shape(other)[1] == width:
        pool.append(
            g.apply("MAXIMUM", [x, other], (1, width), options="MaximumMinimumOptions")
        )  # fmt: skip
    elif step == "with constant":
        row = g.floats(np.full((1, 3), 10.0**power))
        pool.append(g.apply("CONCATENATION", [x, row], (1, width + 3), **options))
