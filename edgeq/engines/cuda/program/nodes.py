"""What an INT8 net is in integer arithmetic: values, and the nodes that compute them.

A node says exactly what is computed, bit for bit, and nothing of how: `reference` evaluates it with
numpy, the kernels compute the same. int8 values are NHWC; every accumulator is int32. The formulas
are those of XNNPACK and of LiteRT's builtin kernels; each node names its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import numpy.typing as npt

from edgeq.engines.cuda.program.scaling import Addition as Addition
from edgeq.engines.cuda.program.scaling import Epilogue as Epilogue
from edgeq.engines.cuda.program.scaling import FixedPoint as FixedPoint
from edgeq.engines.cuda.program.scaling import Floats as Floats
from edgeq.engines.cuda.program.scaling import Int8s as Int8s
from edgeq.engines.cuda.program.scaling import Int32s as Int32s
from edgeq.engines.cuda.program.scaling import Requantization as Requantization
from edgeq.engines.cuda.program.scaling import RoundedTwice as RoundedTwice

Datatype = Literal["int8", "uint8", "int32", "float32"]
Pair = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Value:
    """A tensor between nodes, by its position in `Program.values`."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype


@dataclass(frozen=True)
class Window:
    """How a kernel slides; positions outside x hold x's zero point (or are left out by pooling)."""

    size: Pair
    stride: Pair
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)  # padding above, to the left
    after: Pair = (0, 0)  # below, to the right


@dataclass(frozen=True, eq=False)
class Convolution:
    """x [N, H, W, C] -> y [N, OH, OW, OC]."""

    x: int
    y: int
    weights: Int8s  # [OC, KH, KW, C]
    window: Window
    zero_point: int  # of x
    epilogue: Epilogue


@dataclass(frozen=True, eq=False)
class Depthwise:
    """x [N, H, W, C] -> y [N, OH, OW, C * multiplier]; channel o reads channel o // multiplier."""

    x: int
    y: int
    weights: Int8s  # [KH, KW, C * multiplier]
    window: Window
    zero_point: int
    epilogue: Epilogue


@dataclass(frozen=True, eq=False)
class Dense:
    """x, seen as [rows, K] -> y, seen as [rows, O]."""

    x: int
    y: int
    weights: Int8s  # [O, K]
    zero_point: int
    epilogue: Epilogue


@dataclass(frozen=True, eq=False)
class TransposedConvolution:
    """x [N, H, W, C] scattered by the window's stride -> y [N, OH, OW, OC].

    y[oh] gathers x[ih] * w[kh] wherever oh + before = ih * stride + kh. Padding contributes
    nothing, so the zero point of x is subtracted from x and not folded into the bias.
    """

    x: int
    y: int
    weights: Int8s  # [OC, KH, KW, C]
    window: Window
    zero_point: int
    epilogue: Epilogue


@dataclass(frozen=True, eq=False)
class MatrixProduct:
    """a [..., M, K] (or [..., K, M]) times b [..., K, N] (or [..., N, K]) -> y [..., M, N].

    Leading dimensions broadcast. acc = sum((a - a_zero_point) * (b - b_zero_point)). With `fixed`,
    it is scaled by that instead of the requantization's scale, and then clamped.
    """

    a: int
    b: int
    y: int
    a_transposed: bool
    b_transposed: bool
    a_zero_point: int
    b_zero_point: int
    requantization: Requantization  # [1] each; bias 0
    fixed: RoundedTwice | None = None


@dataclass(frozen=True)
class Sum:
    """ADD and SUB of two values that broadcast to y's shape as numpy's do."""

    a: int
    b: int
    y: int
    addition: Addition


@dataclass(frozen=True)
class Extremum:
    """MAXIMUM and MINIMUM of raw int8 values that broadcast to y's shape as numpy's do."""

    kind: Literal["maximum", "minimum"]
    a: int
    b: int
    y: int


@dataclass(frozen=True)
class Product:
    """`rint(clamp(float32((a - a_zero_point) * (b - b_zero_point)) * scale)) + zero_point`.

    With `fixed`, the product is scaled by that instead, and clamped after the zero point is added.
    """

    a: int
    b: int
    y: int
    a_zero_point: int
    b_zero_point: int
    scale: float  # a float32
    zero_point: int
    low: int
    high: int
    fixed: FixedPoint | None = None


@dataclass(frozen=True, eq=False)
class Lookup:
    """y = table[x + 128] (or table[x] where x is uint8): every unary op of one int8 value."""

    x: int
    y: int
    table: npt.NDArray[Any]  # [256], of y's datatype


@dataclass(frozen=True, eq=False)
class ChannelLookup:
    """y = tables[c, x + 128], c the innermost index: PRELU."""

    x: int
    y: int
    tables: Int8s  # [C, 256]


@dataclass(frozen=True)
class Pooling:
    """AVERAGE_POOL_2D and MAX_POOL_2D; padding is left out of both.

    The average is the sum over the count of the inputs inside, divided in integers, half away
    from zero.
    """

    kind: Literal["average", "maximum"]
    x: int
    y: int
    window: Window
    low: int
    high: int


@dataclass(frozen=True)
class Mean:
    """x, seen as [outer, count, inner] -> y, seen as [outer, inner].

    `clamp(rint(float32(sum(x)) * scale + offset), low, high)`, each step in float32 and no two of
    them fused. XNNPACK has both zero points in the offset, and so rounds halves otherwise than a
    requantization would.
    """

    x: int
    y: int
    outer: int
    count: int
    inner: int
    scale: float  # a float32
    offset: float  # a float32
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Softmax:
    """x, seen as [rows, depth] -> y alike, as LiteRT's table-driven int8 softmax.

    With t[j] = table[maximum - x[j]], all in float32: `total` adds t[0], t[1], ... in that order,
    then y[j] = round(t[j] * (1 / (total * scale))) + zero_point, a half away from zero (C's roundf:
    adding 0.5 first would round 0.49999997 up), saturating.
    """

    x: int
    y: int
    depth: int
    table: Floats  # [256]: exp(-scale * beta * i), by maximum - x
    scale: float  # of y
    zero_point: int  # of y


@dataclass(frozen=True)
class Axis:
    """Along one dimension of y: index i of y reads index `i * step + start` of x's dimension.

    `extent` is x's size there. An index outside [0, extent) gives the fill, or is reflected where
    the node mirrors.
    """

    size: int  # how many indices of y are written
    start: int = 0
    step: int = 1
    extent: int = 1
    stride: int = 0  # elements of the dense x from one index to the next


@dataclass(frozen=True)
class Move:
    """A copy of a strided, padded, permuted x into a dense or strided box of y; no arithmetic.

    y's box has `axes[i].size` elements in dimension i, from `offset` on, `y_strides[i]` elements
    apart in y seen as dense. SLICE, STRIDED_SLICE, SPLIT, PACK, CONCATENATION (one Move a part),
    PAD, MIRROR_PAD, TRANSPOSE, SPACE_TO_DEPTH, DEPTH_TO_SPACE and their like.
    """

    x: int
    y: int
    axes: tuple[Axis, ...]
    y_strides: tuple[int, ...]
    offset: int = 0
    fill: int = 0  # of an int8 value
    mirror: Literal["", "reflect", "symmetric"] = ""


@dataclass(frozen=True)
class Reshape:
    """y is x under another shape."""

    x: int
    y: int


@dataclass(frozen=True, eq=False)
class NearestResize:
    """y[n, h, w] = x[n, rows[h], columns[w]]."""

    x: int
    y: int
    rows: Int32s  # [OH]
    columns: Int32s  # [OW]


@dataclass(frozen=True, eq=False)
class BilinearResize:
    """Weights of 11 bits, as XNNPACK: `reference` has the formula."""

    x: int
    y: int
    rows: Int32s  # [OH, 2]: the upper of the two rows read, the lower one
    columns: Int32s  # [OW, 2]
    row_weights: Int32s  # [OH]: of the lower row, 0..2048
    column_weights: Int32s  # [OW]: of the right column


@dataclass(frozen=True)
class Quantize:
    """float32 -> int8 (or uint8): `rint(x * inverse_scale)`, saturating, + zero_point.

    A NaN gives the highest level, as XNNPACK's minimum does on x86.
    """

    x: int
    y: int
    inverse_scale: float  # a float32
    zero_point: int


@dataclass(frozen=True)
class Dequantize:
    """int8 (or uint8) -> float32: `(x - zero_point) * scale`."""

    x: int
    y: int
    scale: float  # a float32
    zero_point: int


@dataclass(frozen=True, eq=False)
class Chain:
    """Nodes of which each reads what the one before it computes, and nothing else reads that.

    They are carried out in one kernel where that is faster, one after the other otherwise.
    """

    parts: tuple[Node, ...]

    @property
    def x(self) -> int:
        """Return what the first one reads."""
        first: Any = self.parts[0]
        x: int = first.x
        return x

    @property
    def y(self) -> int:
        """Return what the last one computes."""
        return self.parts[-1].y

    @property
    def between(self) -> tuple[int, ...]:
        """Return the values that only the chain knows."""
        return tuple(part.y for part in self.parts[:-1])


Node = Union[  # noqa: UP007 - one a line
    Convolution,
    Depthwise,
    Dense,
    TransposedConvolution,
    MatrixProduct,
    Sum,
    Extremum,
    Product,
    Lookup,
    ChannelLookup,
    Pooling,
    Mean,
    Softmax,
    Move,
    Reshape,
    NearestResize,
    BilinearResize,
    Quantize,
    Dequantize,
    Chain,
]


@dataclass(frozen=True, eq=False)
class Program:
    """Nodes in the order of computation. Several Moves may write parts of one value."""

    values: tuple[Value, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, npt.NDArray[Any]] = field(default_factory=dict)  # value -> its array
    labels: tuple[str, ...] = ()  # of each node: the ops of the model it carries out
