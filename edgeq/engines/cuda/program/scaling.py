"""How sums and products of int8 become int8 again: the roundings that the nodes name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Requantization:
    """An int32 accumulator of channel c -> int8, as XNNPACK's "fp32" requantization.

    `rint(clamp(float32(acc + bias[c]) * scale[c], low - zero_point, high - zero_point))
    + zero_point`, each step in float32, rint to even.
    """

    bias: Int32s  # [C]; -zero_point(x) * sum(weights) is folded in
    scale: Floats  # [C]
    zero_point: int
    low: int  # of the int8 result: -128, or what a fused activation leaves
    high: int


@dataclass(frozen=True)
class Addition:
    """`clamp(((a * a_factor + b * b_factor + bias) >> shift) + zero_point, low, high)` in int32."""

    a_factor: int
    b_factor: int
    bias: int  # rounding and both zero points folded in
    shift: int
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class RoundedTwice:
    """A scale as LiteRT's MultiplyByQuantizedMultiplier: int32 v ->

    `high = ((v << left) * multiplier + 2**30) >> 31` in 64 bits, then `high / 2**right` rounded, a
    half away from zero.
    """

    multiplier: int  # [2**30, 2**31)
    left: int
    right: int


@dataclass(frozen=True)
class FixedPoint:
    """A scale without floats, XNNPACK's "rndnu" on ARM: int32 v ->

    `(((v << left) * multiplier >> 31) + (1 << (right - 1))) >> right`, the product in 64 bits.
    """

    multiplier: int  # [2**30, 2**31)
    left: int
    right: int  # at least 1


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What happens to an accumulator before it is stored, in this order unless said otherwise."""

    requantization: Requantization
    addition: Addition | None = None  # a: the requantized result, b: the value `other`
    other: int | None = None  # of the result's shape
    table: Int8s | None = None  # [256], by result + 128
    is_table_first: bool = False  # before the addition: an activation, then the residual
