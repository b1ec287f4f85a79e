"""An INT8 .tflite -> the same net in floats as a torch module, as its author would have had it.

Weights are dequantized, the borders between integers and floats vanish, fused activations become
ops. Activations keep TFLite's [N, H, W, C]; around a convolution they are seen as channels_last
[N, C, H, W], which moves nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from edgeq.tflite.model import Model, indices
from edgeq.tflite.schema import schema
from tools.gpu_bench.convolutions import same_margins

Value = Any  # a node of the graph
ACTIVATIONS: dict[int, Callable[..., Any]] = {
    int(schema.ActivationFunctionType.RELU): functional.relu,
    int(schema.ActivationFunctionType.RELU6): functional.relu6,
}
UNARY: dict[str, Callable[..., Any]] = {
    "LOGISTIC": torch.sigmoid,
    "TANH": torch.tanh,
    "RELU": functional.relu,
    "RELU6": functional.relu6,
    "HARD_SWISH": functional.hardswish,
}
BINARY: dict[str, Callable[..., Any]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
}
SAME = int(schema.Padding.SAME)


class UnsupportedOp(Exception):
    """An op that this translation does not know."""


def torch_net(model: Model) -> torch.fx.GraphModule:
    """Return the net in float32; its outputs are a tuple in the model's order.

    Raises:
        UnsupportedOp: an op, or a form of one, that is not translated.
    """
    return _Translator(model).translate()


class _Translator:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.root = torch.nn.Module()
        self.graph = torch.fx.Graph()
        self.values: dict[int, Value] = {}

    def translate(self) -> torch.fx.GraphModule:
        for position, tensor in enumerate(self.model.inputs):
            self.values[tensor] = self.graph.placeholder(f"input_{position}")
        for op in self.model.operators:
            self._translate(op)
        self.graph.output(tuple(self.values[tensor] for tensor in self.model.outputs))
        return torch.fx.GraphModule(self.root, self.graph).eval()

    def _translate(self, op: Any) -> None:
        name = self.model.op_name(op)
        result = self._result(name, op, op.builtinOptions)
        fused = int(getattr(op.builtinOptions, "fusedActivationFunction", 0) or 0)
        if fused:
            if fused not in ACTIVATIONS:
                raise UnsupportedOp(f"{name} with the fused activation {fused}")
            result = self._call(ACTIVATIONS[fused], result)
        outputs = indices(op.outputs)
        if len(outputs) == 1:
            self.values[outputs[0]] = result
            return
        for position, tensor in enumerate(outputs):
            self.values[tensor] = self._call(operator.getitem, result, position)

    def _result(self, name: str, op: Any, options: Any) -> Value:
        inputs = indices(op.inputs)
        if name in ("QUANTIZE", "DEQUANTIZE"):
            return self._value(inputs[0])
        if name in UNARY:
            return self._call(UNARY[name], self._value(inputs[0]))
        if name in BINARY:
            return self._call(BINARY[name], *(self._value(tensor) for tensor in inputs))
        if name not in _TRANSLATIONS:
            raise UnsupportedOp(name)
        return _TRANSLATIONS[name](self, inputs, options)

    # ---- values

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Value:
        return self.graph.call_function(function, arguments, named)

    def _method(self, name: str, x: Value, *arguments: Any) -> Value:
        return self.graph.call_method(name, (x, *arguments))

    def _value(self, tensor: int) -> Value:
        """Return an activation; a constant is placed at the first asking."""
        if tensor not in self.values:
            self.values[tensor] = self._buffer(tensor, self._floats(tensor))
        return self.values[tensor]

    def _floats(self, tensor: int) -> torch.Tensor:
        values = self._numbers(tensor)
        quantization = self.model.quantization(tensor)
        if quantization is None:
            return torch.from_numpy(values.astype(np.float32))
        shape = [1] * values.ndim
        if quantization.is_per_channel:
            shape[quantization.axis] = -1
        zero_point, scale = (
            part.astype(np.float32).reshape(shape)
            for part in (quantization.zero_point, quantization.scale)
        )
        return torch.from_numpy((values.astype(np.float32) - zero_point) * scale)

    def _numbers(self, tensor: int) -> np.ndarray:
        values = self.model.constant(tensor)
        if values is None:
            raise UnsupportedOp("an input that must be constant and is computed")
        return values

    def _buffer(self, tensor: int, values: torch.Tensor) -> Value:
        name = f"constant_{tensor}"
        self.root.register_buffer(name, values)
        return self.graph.get_attr(name)

    def _bias(self, inputs: list[int]) -> Value | None:
        return self._value(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None

    # ---- ops that slide

    def convolution(self, inputs: list[int], options: Any) -> Value:
        weights = self._floats(inputs[1]).permute(0, 3, 1, 2)  # [OC, KH, KW, C] -> [OC, C, KH, KW]
        return self._convolve(inputs, options, weights, groups=1)

    def depthwise(self, inputs: list[int], options: Any) -> Value:
        weights = self._floats(inputs[1]).permute(3, 0, 1, 2)  # [1, KH, KW, OC] -> [OC, 1, KH, KW]
        return self._convolve(inputs, options, weights, groups=self.model.shape(inputs[0])[3])

    def _convolve(
        self, inputs: list[int], options: Any, weights: torch.Tensor, groups: int
    ) -> Value:
        kernel = self._buffer(inputs[1], weights.contiguous(memory_format=torch.channels_last))
        dilation = (options.dilationHFactor, options.dilationWFactor)
        x, padding = self._padded(inputs[0], options, tuple(weights.shape[2:]), dilation, 0.0)
        y = self._call(
            functional.conv2d, x, kernel, self._bias(inputs),
            (options.strideH, options.strideW), padding, dilation, groups,
        )  # fmt: skip
        return self._method("permute", y, 0, 2, 3, 1)

    def max_pool(self, inputs: list[int], options: Any) -> Value:
        size = (options.filterHeight, options.filterWidth)
        x, padding = self._padded(inputs[0], options, size, (1, 1), float("-inf"))
        stride = (options.strideH, options.strideW)
        return self._method(
            "permute", self._call(functional.max_pool2d, x, size, stride, padding), 0, 2, 3, 1
        )

    def average_pool(self, inputs: list[int], options: Any) -> Value:
        size = (options.filterHeight, options.filterWidth)
        margins = self._margins(inputs[0], options, size, (1, 1))
        if any(before != after for before, after in margins):
            raise UnsupportedOp("AVERAGE_POOL_2D padded unevenly")
        x = self._method("permute", self._value(inputs[0]), 0, 3, 1, 2)
        padding, stride = tuple(m[0] for m in margins), (options.strideH, options.strideW)
        y = self._call(functional.avg_pool2d, x, size, stride, padding, False, False)
        return self._method("permute", y, 0, 2, 3, 1)

    def _padded(
        self, tensor: int, options: Any, size: Any, dilation: Any, fill: float
    ) -> tuple[Value, tuple[int, ...]]:
        """Return x as [N, C, H, W], and the even padding that is left to the op itself."""
        x = self._method("permute", self._value(tensor), 0, 3, 1, 2)
        (top, bottom), (left, right) = self._margins(tensor, options, size, dilation)
        if (top, left) == (bottom, right):
            return x, (top, left)
        return self._call(functional.pad, x, (left, right, top, bottom), "constant", fill), (0, 0)

    def _margins(
        self, tensor: int, options: Any, size: Any, dilation: Any
    ) -> tuple[tuple[int, int], ...]:
        """Return what TensorFlow's SAME adds before and after height and width."""
        if options.padding != SAME:
            return ((0, 0), (0, 0))
        extents = self.model.shape(tensor)[1:3]
        strides = (options.strideH, options.strideW)
        return tuple(map(same_margins, extents, size, strides, dilation))

    # ---- other ops

    def dense(self, inputs: list[int], options: Any) -> Value:
        weights = self._value(inputs[1])
        x = self._method("reshape", self._value(inputs[0]), -1, self.model.shape(inputs[1])[1])
        return self._call(functional.linear, x, weights, self._bias(inputs))

    def mean(self, inputs: list[int], options: Any) -> Value:
        axes = tuple(int(axis) for axis in np.atleast_1d(self._numbers(inputs[1])))
        return self._method("mean", self._value(inputs[0]), axes, bool(options.keepDims))

    def softmax(self, inputs: list[int], options: Any) -> Value:
        x = self._value(inputs[0])
        scaled = x if options.beta == 1.0 else self._call(operator.mul, x, options.beta)
        return self._call(functional.softmax, scaled, -1)

    def concatenate(self, inputs: list[int], options: Any) -> Value:
        return self._call(torch.cat, [self._value(tensor) for tensor in inputs], options.axis)

    def pad(self, inputs: list[int], options: Any) -> Value:
        margins = self._numbers(inputs[1]).astype(int)
        return self._call(
            functional.pad, self._value(inputs[0]), margins[::-1].reshape(-1).tolist()
        )

    def reshape(self, inputs: list[int], options: Any) -> Value:
        """Keep the batch free, as the nets that are made here do."""
        wanted = [int(extent) for extent in self._numbers(inputs[1])]
        return self._method("reshape", self._value(inputs[0]), *wanted)

    def strided_slice(self, inputs: list[int], options: Any) -> Value:
        begin, end, step = (self._numbers(tensor).tolist() for tensor in inputs[1:4])
        if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask:
            raise UnsupportedOp("STRIDED_SLICE that changes the rank")
        bounds = tuple(
            slice(
                None if options.beginMask >> axis & 1 else begin[axis],
                None if options.endMask >> axis & 1 else end[axis],
                step[axis],
            )
            for axis in range(len(begin))
        )
        return self._call(operator.getitem, self._value(inputs[0]), bounds)

    def split(self, inputs: list[int], options: Any) -> Value:
        axis = int(self._numbers(inputs[0]).item())
        return self._call(torch.chunk, self._value(inputs[1]), options.numSplits, axis)

    def transpose(self, inputs: list[int], options: Any) -> Value:
        order = [int(axis) for axis in self._numbers(inputs[1])]
        return self._method("permute", self._value(inputs[0]), *order)

    def nearest_resize(self, inputs: list[int], options: Any) -> Value:
        if options.alignCorners or options.halfPixelCenters:
            raise UnsupportedOp("RESIZE_NEAREST_NEIGHBOR with other centres")
        return self._resize(inputs, mode="nearest")

    def bilinear_resize(self, inputs: list[int], options: Any) -> Value:
        if not (options.alignCorners or options.halfPixelCenters):
            raise UnsupportedOp("RESIZE_BILINEAR from corners")
        return self._resize(inputs, mode="bilinear", align_corners=bool(options.alignCorners))

    def _resize(self, inputs: list[int], **named: Any) -> Value:
        size = [int(extent) for extent in self._numbers(inputs[1])]
        x = self._method("permute", self._value(inputs[0]), 0, 3, 1, 2)
        return self._method(
            "permute", self._call(functional.interpolate, x, size, **named), 0, 2, 3, 1
        )

    def leaky_relu(self, inputs: list[int], options: Any) -> Value:
        return self._call(functional.leaky_relu, self._value(inputs[0]), options.alpha)


_TRANSLATIONS: dict[str, Callable[[_Translator, list[int], Any], Value]] = {
    "CONV_2D": _Translator.convolution,
    "DEPTHWISE_CONV_2D": _Translator.depthwise,
    "FULLY_CONNECTED": _Translator.dense,
    "MAX_POOL_2D": _Translator.max_pool,
    "AVERAGE_POOL_2D": _Translator.average_pool,
    "MEAN": _Translator.mean,
    "SOFTMAX": _Translator.softmax,
    "CONCATENATION": _Translator.concatenate,
    "PAD": _Translator.pad,
    "RESHAPE": _Translator.reshape,
    "STRIDED_SLICE": _Translator.strided_slice,
    "SPLIT": _Translator.split,
    "TRANSPOSE": _Translator.transpose,
    "RESIZE_NEAREST_NEIGHBOR": _Translator.nearest_resize,
    "RESIZE_BILINEAR": _Translator.bilinear_resize,
    "LEAKY_RELU": _Translator.leaky_relu,
}
