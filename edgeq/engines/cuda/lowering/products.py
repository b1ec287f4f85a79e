"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV, BATCH_MATMUL as XNNPACK has them."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.lowering.boxes import Box, copy_box
from edgeq.engines.cuda.lowering.draft import Draft, parameters, require
from edgeq.engines.cuda.lowering.graph import Op, Tensor
from edgeq.engines.cuda.lowering.probe import Trial, as_computed_here
from edgeq.engines.cuda.lowering.ranges import delegated_bounds
from edgeq.engines.cuda.lowering.windows import is_same, scattering_window, window
from edgeq.engines.cuda.program.nodes import (
    Convolution,
    Dense,
    Depthwise,
    Epilogue,
    MatrixProduct,
    Pair,
    Requantization,
    RoundedTwice,
    TransposedConvolution,
    Window,
)

Array = npt.NDArray[Any]
ARM = ("aarch64", "arm64", "armv7l")
LARGEST_SCALE = 256.0  # XNNPACK refuses to scale an accumulator by more
LONGEST_SHIFT = 31
TRIALS = 8


def convolution(draft: Draft, op: Op) -> None:
    """Lower CONV_2D; groups become convolutions of their own between slices."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    weights = _weights(draft, op.inputs[1], axis=0)
    require(len(op.inputs) > 2 and op.inputs[2] >= 0, "has no bias, so another kernel computes it")
    size = (weights.shape[1], weights.shape[2])
    slides = window(op, size, draft.tensor(x).shape, draft.tensor(y).shape)
    scales = _Scales(draft, op, x, op.inputs[1], op.inputs[2], y)
    groups = draft.tensor(x).shape[3] // weights.shape[3]
    if groups == 1:
        r = scales.requantization(weights.reshape(len(weights), -1), fold=True)
        node = Convolution(x, y, weights, slides, scales.zero_point, Epilogue(r))
        draft.add(node)
    elif weights.shape[3] == 1:
        _require_float_rounding(draft.tensor(op.inputs[1]))
        r = scales.requantization(weights.reshape(len(weights), -1), fold=True)
        by_tap = np.ascontiguousarray(weights[..., 0].transpose(1, 2, 0))
        draft.add(Depthwise(x, y, by_tap, slides, scales.zero_point, Epilogue(r)))
    else:
        _grouped(draft, x, y, weights, slides, scales, groups)


def _grouped(
    draft: Draft, x: int, y: int, weights: Array, slides: Window, scales: _Scales, groups: int
) -> None:
    shapes = draft.tensor(x).shape, draft.tensor(y).shape
    r = scales.requantization(weights.reshape(len(weights), -1), fold=True)
    for own in np.array_split(np.arange(len(weights)), groups):
        group = int(own[0]) // len(own)
        part = draft.temporary((*shapes[0][:3], weights.shape[3]))
        result = draft.temporary((*shapes[1][:3], len(own)))
        start = (0, 0, 0, group * weights.shape[3])
        draft.add(copy_box(x, part, shapes[0], draft.values[part].shape, Box(start=start)))
        epilogue = Epilogue(Requantization(r.bias[own], r.scale[own], r.zero_point, r.low, r.high))
        draft.add(Convolution(part, result, weights[own], slides, scales.zero_point, epilogue))
        box = Box(size=draft.values[result].shape, at=(0, 0, 0, int(own[0])))
        draft.add(copy_box(result, y, draft.values[result].shape, shapes[1], box))


def depthwise(draft: Draft, op: Op) -> None:
    """Lower DEPTHWISE_CONV_2D."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    weights = _weights(draft, op.inputs[1], axis=3)[0]
    require(len(op.inputs) > 2 and op.inputs[2] >= 0, "has no bias, so another kernel computes it")
    _require_float_rounding(draft.tensor(op.inputs[1]))
    slides = window(op, (weights.shape[0], weights.shape[1]), draft.tensor(x).shape,
                    draft.tensor(y).shape)  # fmt: skip
    scales = _Scales(draft, op, x, op.inputs[1], op.inputs[2], y)
    r = scales.requantization(weights.reshape(-1, weights.shape[2]).T, fold=True)
    draft.add(Depthwise(x, y, weights, slides, scales.zero_point, Epilogue(r)))


def dense(draft: Draft, op: Op) -> None:
    """Lower FULLY_CONNECTED."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    require(int(op.options.get("weightsFormat", 0)) == 0, "has shuffled weights")
    weights = _weights(draft, op.inputs[1], axis=0)
    bias = op.inputs[2] if len(op.inputs) > 2 else -1
    scales = _Scales(draft, op, x, op.inputs[1], bias, y)
    r = scales.requantization(weights, fold=True)
    draft.add(Dense(x, y, weights, scales.zero_point, Epilogue(r)))


def transposed_convolution(draft: Draft, op: Op) -> None:
    """Lower TRANSPOSE_CONV."""
    require(draft.is_static(op.inputs[0]), "has a computed size, so another kernel computes it")
    x, y = draft.int8(op.inputs[2]), draft.int8(op.outputs[0])
    weights = _weights(draft, op.inputs[1], axis=0)
    size: Pair = (weights.shape[1], weights.shape[2])
    slides = scattering_window(op, size, draft.tensor(x).shape, draft.tensor(y).shape)
    fits = not is_same(op) or all(s <= k for s, k in zip(slides.stride, size, strict=True))
    require(fits, "has strides beyond its kernel, so another kernel computes it")
    bias = op.inputs[3] if len(op.inputs) > 3 else -1
    scales = _Scales(draft, op, x, op.inputs[1], bias, y)
    r = scales.requantization(weights.reshape(len(weights), -1), fold=False)
    draft.add(TransposedConvolution(x, y, weights, slides, scales.zero_point, Epilogue(r)))


def matrix_product(draft: Draft, op: Op) -> None:
    """Lower BATCH_MATMUL: XNNPACK's where the second matrix has the zero point 0, else LiteRT's."""
    a, b, y = draft.int8(op.inputs[0]), draft.int8(op.inputs[1]), draft.int8(op.outputs[0])
    first, second, result = draft.tensor(a), draft.tensor(b), draft.tensor(y)
    require(min(len(first.shape), len(second.shape)) >= 2, "multiplies a vector")
    scale = first.scale * second.scale / result.scale
    r = Requantization(np.zeros(1, np.int32), np.array([scale], np.float32), result.zero_point,
                       -128, 127)  # fmt: skip
    is_transposed = bool(op.options["adjX"]), bool(op.options["adjY"])
    node = MatrixProduct(a, b, y, *is_transposed, first.zero_point, second.zero_point, r)
    fixed = rounded_twice(float(first.scale) * float(second.scale) / float(result.scale))
    depth = first.shape[-2 if node.a_transposed else -1]
    in_integers = dataclasses.replace(node, fixed=fixed)
    require(depth << (16 + fixed.left) < 1 << 30, "has sums that may leave int32")
    expected = [node, in_integers] if second.zero_point == 0 else [in_integers, node]
    draft.add(as_computed_here(draft, op, expected, _random_matrices(draft, op)))


def rounded_twice(scale: float) -> RoundedTwice:
    """Return a scale as LiteRT's QuantizeMultiplier of quantization_util.cc has it."""
    mantissa, exponent = math.frexp(scale)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    require(exponent > -LONGEST_SHIFT, "has a scale that LiteRT takes for zero")
    return RoundedTwice(multiplier, max(exponent, 0), max(-exponent, 0))


def _random_matrices(draft: Draft, op: Op) -> Iterator[Trial]:
    """Yield trials; in half of them the values lie near the zero points, so that few saturate."""
    random = np.random.default_rng(0)
    for number in range(TRIALS):
        reach, inputs = 128 if number % 2 else 12, {}
        for index in draft.data_inputs(op):
            tensor = draft.tensor(index)
            levels = tensor.zero_point + random.integers(-reach, reach, tensor.shape)
            inputs[index] = np.clip(levels, -128, 127).astype(np.int8)
        yield Trial(inputs, draft.tensor(op.outputs[0]).shape)


def _require_float_rounding(weights: Tensor) -> None:
    """Refuse what XNNPACK rounds in integers on ARM: dwconv-config.c, its "rndnu" kernels."""
    per_channel = parameters(weights).is_per_channel
    require(per_channel or platform.machine() not in ARM,
            "has one scale for all channels, which XNNPACK rounds otherwise on ARM")  # fmt: skip


def _weights(draft: Draft, index: int, axis: int) -> Array:
    tensor = draft.tensor(index)
    require(draft.is_static(index), "has computed weights")
    require(tensor.type == "INT8", f"has weights of {tensor.type}")
    quantization = parameters(tensor)
    require(not quantization.zero_point.any(), "has weights with a zero point")
    require(not quantization.is_per_channel or quantization.axis == axis,
            "has weights with scales along another axis")  # fmt: skip
    return draft.constant(index)


class _Scales:
    """How an op's accumulators become its result."""

    def __init__(self, draft: Draft, op: Op, x: int, weights: int, bias: int, y: int) -> None:
        self._x, self._y = draft.tensor(x), draft.tensor(y)
        self._weight_scales = parameters(draft.tensor(weights)).scale
        self._bounds = delegated_bounds(op, self._y)
        self._bias: Tensor | None = None
        if bias >= 0:
            self._bias = draft.tensor(bias)
            require(draft.is_static(bias), "has a computed bias")
            require(self._bias.type == "INT32", f"has a bias of {self._bias.type}")

    @property
    def zero_point(self) -> int:
        return self._x.zero_point

    def requantization(self, weights: Array, *, fold: bool) -> Requantization:
        """Return it for weights [O, K]; `fold` takes x's zero point into the bias."""
        bias = np.zeros(len(weights), np.int64)
        if self._bias is not None and self._bias.constant is not None:
            bias += self._bias.constant
        if fold:
            bias -= self.zero_point * weights.astype(np.int64).sum(axis=1)
        # in this order, each step in float32: init_requantization_scale of convolution-nhwc.c
        scale = self._x.scale * self._weight_scales / self._y.scale
        require(bool((scale < LARGEST_SCALE).all()), "has a scale that XNNPACK refuses")
        scales = np.broadcast_to(scale.astype(np.float32), bias.shape).copy()
        return Requantization(bias.astype(np.int32), scales, self._y.zero_point, *self._bounds)
