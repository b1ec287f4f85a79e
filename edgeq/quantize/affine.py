"""Ranges and float constants -> affine parameters and integers, by LiteRT's 8-bit specification.

Source: https://ai.google.dev/edge/litert/models/quantization_spec. Activations are asymmetric
int8, weights symmetric int8 in [-127, 127], biases int32 at scale input * weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import Quantization

Array = npt.NDArray[Any]

INT8_MIN, INT8_MAX = -128, 127
WEIGHT_MAX = 127  # -128 is left out, so that the symmetric kernels may negate
DEAD_SCALE = 1.0  # a tensor that is always 0: any scale is right, 1 keeps every product normal
MIN_SCALE = 2.0**-40  # narrower activations are noise
MIN_PRODUCT = 2.0**-100  # kernels refuse products of scales that are not normal float32 numbers
BIAS_LIMIT = 2**30  # half of int32: the other half is the accumulator's


def per_tensor(scale: float, zero_point: int) -> Quantization:
    """Return the parameters of a tensor with one scale."""
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))


def activation_parameters(lo: float, hi: float) -> Quantization:
    """Return asymmetric parameters whose 256 levels span [lo, hi], widened to hold 0 exactly."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return per_tensor(DEAD_SCALE, 0)
    scale = np.float32(max((hi - lo) / (INT8_MAX - INT8_MIN), MIN_SCALE))
    zero_point = round(INT8_MIN - lo / float(scale))
    return per_tensor(float(scale), min(max(zero_point, INT8_MIN), INT8_MAX))


def weight_parameters(
    values: Array, axis: int | None, bias: Array | None, input_scale: float
) -> Quantization:
    """Return symmetric parameters by the maximum, per index of `axis` (None: one for all).

    A scale is enlarged where the bias at input_scale * scale would leave int32, and a channel
    of zeros takes the largest scale of the others: a scale of its own could be too far from
    theirs for the kernels.
    """
    magnitudes = np.abs(values.astype(np.float64))
    if axis is None:
        maxima = magnitudes.max(initial=0.0, keepdims=True).reshape(1)
    else:
        others = tuple(d for d in range(values.ndim) if d != axis)
        maxima = magnitudes.max(axis=others, initial=0.0)
    scales = maxima / WEIGHT_MAX
    scales[scales == 0] = scales.max(initial=0.0) or DEAD_SCALE
    floor = np.full_like(scales, MIN_PRODUCT / input_scale)
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)
        floor = np.maximum(floor, needed.max(initial=0.0) if axis is None else needed)
    scales = np.maximum(scales, floor).astype(np.float32)
    return Quantization(scales, np.zeros(len(scales), np.int64), axis or 0)


def symmetric_parameters(values: Array) -> Quantization:
    """Return per-tensor parameters with zero point 0, for a constant that acts as weights."""
    return weight_parameters(values, None, None, 1.0)


def quantize_values(values: Array, parameters: Quantization, *, narrow: bool = False) -> Array:
    """Return int8 values; `narrow` leaves out -128, as weights must."""
    scale, zero_point = _aligned(values, parameters)
    levels = np.rint(values.astype(np.float64) / scale) + zero_point
    lowest = -WEIGHT_MAX if narrow else INT8_MIN
    result: Array = np.clip(levels, lowest, INT8_MAX).astype(np.int8)
    return result


def dequantize_values(values: Array, parameters: Quantization) -> Array:
    """Return float32 values of integers."""
    scale, zero_point = _aligned(values, parameters)
    result: Array = ((values.astype(np.float64) - zero_point) * scale).astype(np.float32)
    return result


def quantize_bias(
    bias: Array, weights: Quantization, input_scale: float
) -> tuple[Array, Quantization]:
    """Return int32 values and their parameters, scale = input_scale * weight scale."""
    scale = (np.float32(input_scale) * weights.scale).astype(np.float32)
    levels = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    limit = np.iinfo(np.int32)
    values = np.clip(levels, limit.min, limit.max).astype(np.int32)
    return values, Quantization(scale, np.zeros(len(scale), np.int64), 0)


def representable(parameters: Quantization) -> tuple[float, float]:
    """Return the lowest and highest value that int8 holds under per-tensor parameters."""
    scale, zero_point = float(parameters.scale[0]), int(parameters.zero_point[0])
    return (INT8_MIN - zero_point) * scale, (INT8_MAX - zero_point) * scale


def _aligned(values: Array, parameters: Quantization) -> tuple[Array, Array]:
    """Return scale and zero point shaped to broadcast against `values`."""
    scale, zero_point = parameters.scale.astype(np.float64), parameters.zero_point
    if not parameters.is_per_channel:
        return scale[0], zero_point[0]
    shape = [1] * values.ndim
    shape[parameters.axis] = -1
    return scale.reshape(shape), np.broadcast_to(zero_point, scale.shape).reshape(shape)
