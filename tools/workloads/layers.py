"""Layers with random weights, appended one by one to a float .tflite graph and run as they come.

Each layer with weights is scaled by what it makes of one image, as batch normalization would have
done: activations neither vanish nor explode in a net that nobody trained, and their extremes are
the ranges for its INT8 form. Source: Mishkin and Matas, "All you need is a good init" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests.tiny import GraphBuilder

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

CEILINGS = {"": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
ACTIVATIONS = {"": "NONE", "relu": "RELU", "relu6": "RELU6"}
UNDILATED = {"dilationHFactor": 1, "dilationWFactor": 1}


@dataclass(frozen=True, eq=False)
class Feature:
    """An activation: its tensor in the graph, and its values for the one image."""

    tensor: int
    values: Array  # [N, H, W, C], or what a head made of it

    @property
    def shape(self) -> Shape:
        """Return the shape."""
        return self.values.shape

    @property
    def channels(self) -> int:
        """Return the innermost extent."""
        return self.values.shape[-1]


@dataclass(frozen=True)
class Net:
    """A float model, and the range of each of its activations."""

    model: Model
    table: CalibrationTable


@dataclass(frozen=True)
class _Op:
    """An op of the graph, before it has a place in it."""

    name: str
    options: str | None
    fields: dict[str, Any]

    def append(self, graph: GraphBuilder, inputs: Sequence[int], output: str, shape: Shape) -> int:
        """Append the op; return its output."""
        return graph.op(self.name, inputs, (output, shape), options=self.options, **self.fields)


class NetBuilder:
    """Appends layers to a net over one square RGB image, 'image' [1, side, side, 3]."""

    def __init__(self, side: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        image = self._image(side)
        self.graph = GraphBuilder({"image": image.shape})
        self.image = Feature(self.graph.inputs[0], image)
        self._ranges = {"image": _range(image)}

    def _image(self, side: int) -> Array:
        """Return noise at two scales, -1 to 1: of white noise alone, deep layers see only grey."""
        coarse = self._random.uniform(-0.5, 0.5, (1, 8, 8, 3)).astype(np.float32)
        each = np.arange(side) * 8 // side
        fine = self._random.uniform(-0.5, 0.5, (1, side, side, 3)).astype(np.float32)
        return coarse[:, each][:, :, each] + fine

    # ---- layers with weights

    def convolution(
        self, x: Feature, channels: int, size: int = 1, stride: int = 1, activation: str = "",
        padding: str = "SAME",
    ) -> Feature:  # fmt: skip
        """Return a convolution of x with a square kernel, its bias and its fused activation."""
        fields = {**_window(stride, padding), **UNDILATED}
        shape = _slid(x.shape, size, stride, padding, channels)
        kernel = self._normal(channels, size, size, x.channels)
        return self._weighted("CONV_2D", "Conv2DOptions", x, kernel, shape, activation, fields)

    def depthwise(self, x: Feature, stride: int = 1, activation: str = "") -> Feature:
        """Return a depthwise convolution of x, 3 by 3."""
        fields = {**_window(stride, "SAME"), **UNDILATED, "depthMultiplier": 1}
        shape = _slid(x.shape, 3, stride, "SAME", x.channels)
        kernel = self._normal(1, 3, 3, x.channels)
        options = "DepthwiseConv2DOptions"
        return self._weighted("DEPTHWISE_CONV_2D", options, x, kernel, shape, activation, fields)

    def dense(self, x: Feature, features: int, spread: float = 1.0) -> Feature:
        """Return a fully connected layer over x [N, C], with that standard deviation."""
        kernel = self._normal(features, x.channels)
        shape = (x.shape[0], features)
        options = "FullyConnectedOptions"
        return self._weighted("FULLY_CONNECTED", options, x, kernel, shape, "", {}, spread)

    def _weighted(
        self, name: str, options: str, x: Feature, kernel: Array, shape: Shape, activation: str,
        fields: dict[str, Any], spread: float = 1.0,
    ) -> Feature:  # fmt: skip
        """Append the op with its kernel scaled and its bias set: mean 0, deviation `spread`."""
        channels = shape[-1]
        raw = _run(_Op(name, options, fields), [x.values], [kernel, np.zeros(channels)], shape)
        scale = spread / max(float(raw.std()), 1e-6)
        bias = np.full(channels, -float(raw.mean()) * scale)
        values = np.clip((raw - raw.mean()) * scale, *CEILINGS[activation]).astype(np.float32)
        fused = {"fusedActivationFunction": _activation(activation)}
        constants = [self._constant(array) for array in (kernel * scale, bias)]
        op = _Op(name, options, {**fields, **fused})
        return self._append(op, [x.tensor, *constants], values)

    # ---- arithmetic

    def add(self, a: Feature, b: Feature, activation: str = "") -> Feature:
        """Return the sum of two features of one shape."""
        fused = _activation(activation)
        return self._plain("ADD", [a, b], a.shape, "AddOptions", fusedActivationFunction=fused)

    def silu(self, x: Feature) -> Feature:
        """Return x * sigmoid(x), as LiteRT writes it: two ops."""
        return self._plain("MUL", [x, self.sigmoid(x)], x.shape, "MulOptions")

    def sigmoid(self, x: Feature) -> Feature:
        """Return the logistic function of x."""
        return self._plain("LOGISTIC", [x], x.shape)

    def softmax(self, x: Feature) -> Feature:
        """Return the softmax along the innermost dimension."""
        return self._plain("SOFTMAX", [x], x.shape, "SoftmaxOptions", beta=1.0)

    def expectation(self, x: Feature) -> Feature:
        """Return the mean of 0, 1, ... by the probabilities x [N, H, W, bins]: a fixed 1x1 kernel.

        The last part of YOLOv8's distribution focal loss.
        """
        kernel = np.arange(x.channels, dtype=np.float32).reshape(1, 1, 1, -1)
        op = _Op("CONV_2D", "Conv2DOptions", {**_window(1, "SAME"), **UNDILATED})
        bias = np.zeros(1)
        values = _run(op, [x.values], [kernel, bias], (*x.shape[:-1], 1))
        return self._append(op, [x.tensor, self._constant(kernel), self._constant(bias)], values)

    def max_pool(self, x: Feature, size: int, stride: int = 1) -> Feature:
        """Return the maximum of each window."""
        shape = _slid(x.shape, size, stride, "SAME", x.channels)
        extent = {"filterHeight": size, "filterWidth": size}
        return self._plain(
            "MAX_POOL_2D", [x], shape, "Pool2DOptions", **_window(stride, "SAME"), **extent
        )

    def global_average(self, x: Feature) -> Feature:
        """Return the mean over height and width, [N, C]."""
        shape, axes = (x.shape[0], x.channels), [[1, 2]]
        return self._plain("MEAN", [x], shape, "ReducerOptions", whole=axes, keepDims=False)

    # ---- places

    def pad(self, x: Feature, margin: int) -> Feature:
        """Return x with `margin` rows and columns of zeros around it."""
        n, height, width, channels = x.shape
        shape = (n, height + 2 * margin, width + 2 * margin, channels)
        margins = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
        return self._plain("PAD", [x], shape, "PadOptions", whole=[margins])

    def concatenate(self, parts: Sequence[Feature], axis: int = 3) -> Feature:
        """Return the parts joined along one axis."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self._plain("CONCATENATION", parts, tuple(shape), "ConcatenationOptions", axis=axis)

    def halves(self, x: Feature) -> tuple[Feature, Feature]:
        """Return the first and the second half of the channels."""
        half = x.channels // 2
        return self._channels(x, 0, half), self._channels(x, half, x.channels)

    def _channels(self, x: Feature, start: int, end: int) -> Feature:
        bounds = [[0, 0, 0, start], [0, 0, 0, end], [1, 1, 1, 1]]
        masks = {"beginMask": 0b0111, "endMask": 0b0111}  # all of the other dimensions
        shape = (*x.shape[:-1], end - start)
        options = "StridedSliceOptions"
        return self._plain("STRIDED_SLICE", [x], shape, options, whole=bounds, **masks)

    def upsample(self, x: Feature) -> Feature:
        """Return x twice as high and wide, by nearest neighbours."""
        n, height, width, channels = x.shape
        size = [2 * height, 2 * width]
        options = "ResizeNearestNeighborOptions"
        shape = (n, *size, channels)
        return self._plain("RESIZE_NEAREST_NEIGHBOR", [x], shape, options, whole=[size])

    def reshape(self, x: Feature, shape: Shape) -> Feature:
        """Return x under another shape; the first extent stays the batch, whatever it is."""
        wanted = [-1, *shape[1:]]
        return self._plain("RESHAPE", [x], shape, "ReshapeOptions", whole=[wanted], newShape=wanted)

    def finish(self, *outputs: Feature) -> Net:
        """Return the net with these outputs."""
        model = self.graph.finish(*(output.tensor for output in outputs))
        return Net(model, CalibrationTable("", "max", 1, self._ranges))

    # ---- the graph

    def _plain(
        self, name: str, inputs: Sequence[Feature], shape: Shape, options: str | None = None, *,
        whole: Sequence[Any] = (), **fields: Any,
    ) -> Feature:  # fmt: skip
        """Append an op without weights; `whole` are its inputs of whole numbers."""
        op = _Op(name, options, fields)
        numbers = [np.array(value, np.int32) for value in whole]
        values = _run(op, [x.values for x in inputs], numbers, shape)
        constants = [self._constant(array) for array in numbers]
        return self._append(op, [*(x.tensor for x in inputs), *constants], values)

    def _append(self, op: _Op, inputs: Sequence[int], values: Array) -> Feature:
        name = f"{op.name.lower()}_{len(self.graph.model.operators)}"
        self._ranges[name] = _range(values)
        return Feature(op.append(self.graph, inputs, name, values.shape), values)

    def _constant(self, values: Array) -> int:
        return _constant(self.graph, values)

    def _normal(self, *shape: int) -> Array:
        return self._random.standard_normal(shape, np.float32)


def _run(op: _Op, inputs: Sequence[Array], constants: Sequence[Array], shape: Shape) -> Array:
    """Run one op in the runtime, in a model of its own."""
    graph = GraphBuilder({f"x{i}": values.shape for i, values in enumerate(inputs)})
    given = [*graph.inputs, *(_constant(graph, values) for values in constants)]
    runner = Runner(graph.finish(op.append(graph, given, "y", shape)).to_bytes())
    return runner.run({f"x{i}": values for i, values in enumerate(inputs)})["y"]


def _constant(graph: GraphBuilder, values: Array) -> int:
    name = f"constant_{len(graph.model.tensors)}"
    if values.dtype == np.int32:
        return graph.constant(name, values, "INT32")
    return graph.constant(name, values.astype(np.float32))


def _range(values: Array) -> TensorRange:
    low, high = float(values.min()), float(values.max())
    return TensorRange(low, high, "max", 0.0, 0.0, low, high)


def _window(stride: int, padding: str) -> dict[str, int]:
    code = getattr(schema.Padding, padding)
    return {"padding": code, "strideH": stride, "strideW": stride}


def _slid(shape: Shape, size: int, stride: int, padding: str, channels: int) -> Shape:
    """Return the shape that a sliding window leaves."""
    lost = 0 if padding == "SAME" else size - 1
    height, width = (-(-(extent - lost) // stride) for extent in shape[1:3])
    return (shape[0], height, width, channels)


def _activation(name: str) -> int:
    return int(getattr(schema.ActivationFunctionType, ACTIVATIONS[name]))
