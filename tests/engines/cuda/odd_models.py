"""Random one-op INT8 models: odd extents, strides and padding, extreme scales and zero points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests.engines.cuda.int8_models import Grid, Int8Model

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
CHANNELS = (1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 200)
LEVELS_DEVIATION = 74.0  # of random int8
ZERO_POINTS = (-128, 127, 0, -77, 31, 4)


class Odd:
    """Draws extents, grids and options, and builds one op of them.

    Every other seed has powers of two as scales: they show how halves are rounded.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._halves = seed % 2 == 1
        self.build = Int8Model(seed, halves=self._halves)

    def pick(self, *of: int) -> int:
        return int(self.random.choice(of))

    def extent(self, low: int = 1, high: int = 18) -> int:
        return int(self.random.integers(low, high))

    def grid(self, low: float = -2.5, high: float = -0.5) -> Grid:
        """A scale between these powers of ten."""
        return self.of(10 ** self.random.uniform(low, high), self.pick(*ZERO_POINTS))

    def of(self, scale: float, zero_point: int) -> Grid:
        """A grid of about this scale."""
        if self._halves:
            scale = 2.0 ** round(np.log2(scale))
        return Grid(float(np.float32(scale)), zero_point)

    def sums(self, x: Grid, weight_scale: float, depth: int) -> Grid:
        """A grid that holds most sums of so many random products, or a few of them."""
        spread = x.scale * weight_scale * depth**0.5 * LEVELS_DEVIATION**2
        return self.of(spread / self.pick(5, 30, 100), self.pick(-40, 0, 31))

    def fused(self) -> int:
        return self.pick(0, 0, 1, 2, 3)

    def slide(self, extent: int, size: int, stride: int, dilation: int, padding: int) -> int:
        if padding == SAME:
            return -(-extent // stride)
        return (extent - (size - 1) * dilation - 1) // stride + 1


def convolution(odd: Odd, groups: int = 1) -> Model:
    g = odd.build
    n, h, w, c, o = (odd.pick(1, 1, 2, 3), odd.extent(3, 15), odd.extent(3, 15),
                     odd.pick(*CHANNELS), odd.pick(1, 3, 8, 31, 128))  # fmt: skip
    c, o = (c, o) if groups == 1 else (groups * odd.pick(1, 2, 5), groups * odd.pick(1, 3))
    kh, kw, sh, sw, d = odd.pick(1, 2, 3), odd.pick(1, 3, 5), odd.pick(1, 2), odd.pick(1, 3), 1
    if sh == sw == 1:
        d = odd.pick(1, 2)
    padding = VALID if (kh - 1) * d < h and (kw - 1) * d < w and odd.pick(0, 1) else SAME
    grid = odd.grid()
    x = g.input((n, h, w, c), grid)
    inputs = [x, g.weights((o, kh, kw, c // groups), 0), g.bias(o, odd.pick(1, 500, 20_000))]
    shape = (n, odd.slide(h, kh, sh, d, padding), odd.slide(w, kw, sw, d, padding), o)
    y = g.activation(shape, odd.sums(grid, 0.01, kh * kw * c // groups))
    g.op("CONV_2D", inputs, y, "Conv2D", version=3, padding=padding, strideH=sh, strideW=sw,
         dilationHFactor=d, dilationWFactor=d, fusedActivationFunction=odd.fused())  # fmt: skip
    return g.finish(y)


def grouped_convolution(odd: Odd) -> Model:
    return convolution(odd, groups=odd.pick(2, 3, 4))


def depthwise(odd: Odd) -> Model:
    g = odd.build
    n, h, w = odd.pick(1, 1, 2), odd.extent(3, 15), odd.extent(3, 15)
    c, multiplier, kh, kw = (odd.pick(*CHANNELS), odd.pick(1, 1, 2, 3), odd.pick(1, 2, 3, 5),
                             odd.pick(1, 3, 7))  # fmt: skip
    s = odd.pick(1, 2, 3)
    d = 1 if s > 1 else odd.pick(1, 2)
    padding = VALID if (kh - 1) * d < h and (kw - 1) * d < w and odd.pick(0, 1) else SAME
    grid, o = odd.grid(), c * multiplier
    x = g.input((n, h, w, c), grid)
    inputs = [x, g.weights((1, kh, kw, o), 3), g.bias(o, odd.pick(1, 500, 20_000))]
    shape = (n, odd.slide(h, kh, s, d, padding), odd.slide(w, kw, s, d, padding), o)
    y = g.activation(shape, odd.sums(grid, 0.01, kh * kw))
    g.op("DEPTHWISE_CONV_2D", inputs, y, "DepthwiseConv2D", version=3, padding=padding, strideH=s,
         strideW=s, dilationHFactor=d, dilationWFactor=d, depthMultiplier=multiplier,
         fusedActivationFunction=odd.fused())  # fmt: skip
    return g.finish(y)


def dense(odd: Odd) -> Model:
    g, keep = odd.build, bool(odd.pick(0, 1))
    rows = (1, odd.pick(1, 2, 16)) if keep else (odd.pick(1, 2, 16),)
    depth, o = odd.pick(1, 3, 8, 33, 640, 4096), odd.pick(1, 2, 10, 33, 300)
    grid = odd.grid()
    inputs = [g.input((*rows, depth), grid), g.weights((o, depth), 0)]
    if odd.pick(0, 1):
        inputs.append(g.bias(o, odd.pick(1, 500, 20_000)))
    y = g.activation((*rows, o), odd.sums(grid, 0.01, depth))
    g.op("FULLY_CONNECTED", inputs, y, "FullyConnected", version=5, keepNumDims=keep,
         fusedActivationFunction=odd.fused())  # fmt: skip
    return g.finish(y)


def transposed_convolution(odd: Odd) -> Model:
    g = odd.build
    n, h, w, c, o = (odd.pick(1, 2), odd.extent(1, 9), odd.extent(1, 9), odd.pick(1, 3, 8, 17),
                     odd.pick(1, 3, 8, 17))  # fmt: skip
    sh, sw = odd.pick(1, 2, 3), odd.pick(1, 2)
    kh, kw, padding = sh + odd.pick(0, 1, 2), sw + odd.pick(0, 1, 3), odd.pick(SAME, VALID)
    extents = h * sh - odd.extent(0, sh), w * sw - odd.extent(0, sw)
    if padding == VALID:
        extents = (h - 1) * sh + kh, (w - 1) * sw + kw
    shape = (n, *extents, o)
    grid = odd.grid()
    inputs = [g.constant(shape), g.weights((o, kh, kw, c), 0), g.input((n, h, w, c), grid)]
    if odd.pick(0, 1):
        inputs.append(g.bias(o))
    y = g.activation(shape, odd.sums(grid, 0.01, c))
    g.op("TRANSPOSE_CONV", inputs, y, "TransposeConv", version=3, padding=padding, strideH=sh,
         strideW=sw, fusedActivationFunction=odd.fused())  # fmt: skip
    return g.finish(y)


def matrix_product(odd: Odd) -> Model:
    g, batch = odd.build, odd.pick(1, 2, 3)
    m, k, n = (odd.pick(1, 3, 8, 33, 100) for _ in range(3))
    turned = bool(odd.pick(0, 1)), bool(odd.pick(0, 1))
    first = odd.grid()
    a = g.input((batch, k, m) if turned[0] else (batch, m, k), first)
    lead = odd.pick(1, batch)
    grid = Grid(odd.grid().scale, odd.pick(0, 0, -128, 127, 9))
    b = g.input((lead, n, k) if turned[1] else (lead, k, n), grid)
    y = g.activation((batch, m, n), odd.sums(first, grid.scale, k))
    g.op("BATCH_MATMUL", [a, b], y, "BatchMatMul", adjX=turned[0], adjY=turned[1])
    return g.finish(y)


def binary(name: str, options: str = "") -> Callable[[Odd], Model]:
    def build(odd: Odd) -> Model:
        g = odd.build
        shape = tuple(odd.pick(1, 2, 3, 5, 8, 17, 33) for _ in range(odd.pick(1, 2, 3, 4)))
        other = tuple(odd.pick(1, extent) for extent in shape) if odd.pick(0, 1) else shape
        grids = odd.grid(-1.5, -0.5), odd.grid(-1.5, -0.5), odd.grid(-2, 0.5)
        a = g.input(shape, grids[0])
        b = g.input(other, grids[1]) if odd.pick(0, 1) else g.levels(other, grids[1])
        y = g.activation(shape, grids[2])
        fused = {} if options else {"fusedActivationFunction": odd.fused()}
        g.op(name, [a, b] if odd.pick(0, 1) else [b, a], y, options or name.capitalize(), **fused)
        return g.finish(y)

    return build


def pooling(name: str) -> Callable[[Odd], Model]:
    def build(odd: Odd) -> Model:
        g, grid = odd.build, odd.grid()
        n, h, w, c = odd.pick(1, 2), odd.extent(2), odd.extent(2), odd.pick(*CHANNELS)
        kh, kw = odd.extent(1, min(h, 6) + 1), odd.extent(1, min(w, 6) + 1)
        sh, sw, padding = odd.extent(1, 5), odd.extent(1, 5), odd.pick(SAME, VALID)
        x = g.input((n, h, w, c), grid)
        shape = (n, odd.slide(h, kh, sh, 1, padding), odd.slide(w, kw, sw, 1, padding), c)
        y = g.activation(shape, grid)
        g.op(name, [x], y, "Pool2D", padding=padding, strideH=sh, strideW=sw, filterHeight=kh,
             filterWidth=kw, fusedActivationFunction=odd.fused())  # fmt: skip
        return g.finish(y)

    return build


REDUCED = ((1, 2), (1, 2), (3,), (-3,), (2,), (1, 2, 3), (2, 3), (0,), (0, 1, 2, 3))


def reduction(name: str) -> Callable[[Odd], Model]:
    def build(odd: Odd) -> Model:
        g, axes, keep = odd.build, REDUCED[odd.extent(0, len(REDUCED))], bool(odd.pick(0, 1))
        shape = (odd.pick(1, 2, 3), odd.extent(1, 20), odd.extent(1, 20), odd.pick(*CHANNELS))
        reduced = {axis % 4 for axis in axes}
        left = [1 if d in reduced else shape[d] for d in range(4) if keep or d not in reduced]
        count = math.prod(shape[d] for d in reduced)
        grid = odd.of(0.1, odd.pick(-20, 0, 31))
        share = count**-0.5 if name == "MEAN" else count**0.5
        y_grid = odd.of(grid.scale * share * odd.pick(1, 3, 8) / 2, odd.pick(-33, 0, 7))
        x, y = g.input(shape, grid), g.activation(left, grid if odd.pick(0, 1) else y_grid)
        g.op(name, [x, g.constant(axes)], y, "Reducer", keepDims=keep)
        return g.finish(y)

    return build


def softmax(odd: Odd) -> Model:
    g = odd.build
    shape = (*(odd.pick(1, 2, 7) for _ in range(odd.pick(1, 2))), odd.pick(1, 2, 3, 21, 1000))
    x, y = g.input(shape, odd.grid(-3, 0.3)), g.activation(shape, Grid(1 / 256, -128))
    g.op("SOFTMAX", [x], y, "Softmax", beta=float(odd.random.choice([1, 1, 0.5, 2])))
    return g.finish(y)


def unary(
    name: str, options: str | None = None, *, version: int = 2, result: Grid | None = None,
    **fields: float | bool,
) -> Callable[[Odd], Model]:  # fmt: skip
    def build(odd: Odd) -> Model:
        g = odd.build
        shape = tuple(odd.pick(1, 2, 3, 5, 8, 33, 65) for _ in range(odd.pick(1, 2, 3)))
        x, y = g.input(shape, odd.grid(-2, 0)), g.activation(shape, result or odd.grid(-2, 0))
        g.op(name, [x], y, options, version=version, **fields)
        return g.finish(y)

    return build


def slopes(odd: Odd) -> Model:
    g, c = odd.build, odd.pick(1, 3, 8, 17)
    shape = (1, odd.extent(), odd.extent(), c)
    x, y = g.input(shape, odd.grid(-3, 0)), g.activation(shape, odd.grid(-3, 0))
    g.op("PRELU", [x, g.levels((1, 1, c), odd.grid(-3, -1))], y, version=1)
    return g.finish(y)


def resize(name: str, options: str) -> Callable[[Odd], Model]:
    def build(odd: Odd) -> Model:
        g, grid = odd.build, odd.grid()
        n, c, size = odd.pick(1, 2), odd.pick(*CHANNELS), (odd.extent(1, 40), odd.extent(1, 40))
        x, y = g.input((n, odd.extent(), odd.extent(), c), grid), g.activation((n, *size, c), grid)
        kind = odd.pick(0, 1, 2)
        g.op(name, [x, g.constant(size)], y, options, alignCorners=kind == 1,
             halfPixelCenters=kind == 2)  # fmt: skip
        return g.finish(y)

    return build


def border(name: str, x_type: str, y_type: str) -> Callable[[Odd], Model]:
    def build(odd: Odd) -> Model:
        g = odd.build
        shape = [odd.pick(1, 2, 5, 17, 33, 200) for _ in range(odd.pick(1, 2))]
        same = odd.grid(-2, 0)  # between the signed and the unsigned, LiteRT keeps the scale
        grids = [same if "UINT8" in (x_type, y_type) else odd.grid(-2, 0) for _ in range(2)]
        x, y = (_shifted(g, shape, grid, type_name, is_input)
                for grid, type_name, is_input in zip(grids, (x_type, y_type), (True, False),
                                                     strict=True))  # fmt: skip
        g.op(name, [x], y, name.capitalize(), version=2 if x_type.endswith("INT8") else 1)
        return g.finish(y)

    return build


def _shifted(g: Int8Model, shape: Sequence[int], grid: Grid, type_name: str, is_input: bool) -> int:
    shift = 128 if type_name == "UINT8" else 0
    append = g.input if is_input else g.activation
    return append(shape, Grid(grid.scale, grid.zero_point + shift), type_name)


ODD: dict[str, Callable[[Odd], Model]] = {
    "CONV_2D": convolution,
    "CONV_2D-grouped": grouped_convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": dense,
    "TRANSPOSE_CONV": transposed_convolution,
    "BATCH_MATMUL": matrix_product,
    "ADD": binary("ADD"),
    "SUB": binary("SUB"),
    "MUL": binary("MUL"),
    "MAXIMUM": binary("MAXIMUM", "MaximumMinimum"),
    "MINIMUM": binary("MINIMUM", "MaximumMinimum"),
    "AVERAGE_POOL_2D": pooling("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": pooling("MAX_POOL_2D"),
    "MEAN": reduction("MEAN"),
    "SUM": reduction("SUM"),
    "SOFTMAX": softmax,
    "LOGISTIC": unary("LOGISTIC", result=Grid(1 / 256, -128)),
    "TANH": unary("TANH", result=Grid(1 / 128, 0)),
    "LEAKY_RELU": unary("LEAKY_RELU", "LeakyRelu", alpha=0.1),
    "LEAKY_RELU-negative": unary("LEAKY_RELU", "LeakyRelu", alpha=-0.7),
    "HARD_SWISH": unary("HARD_SWISH", version=1),
    "ELU": unary("ELU", version=1),
    "GELU": unary("GELU", "Gelu", approximate=True),
    "ABS": unary("ABS"),
    "EXP": unary("EXP"),
    "RELU6": unary("RELU6"),
    "RELU_N1_TO_1": unary("RELU_N1_TO_1", version=1),
    "PRELU": slopes,
    "RESIZE_BILINEAR": resize("RESIZE_BILINEAR", "ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
    "QUANTIZE": border("QUANTIZE", "FLOAT32", "INT8"),
    "QUANTIZE-unsigned": border("QUANTIZE", "FLOAT32", "UINT8"),
    "QUANTIZE-again": border("QUANTIZE", "INT8", "INT8"),
    "QUANTIZE-signed": border("QUANTIZE", "UINT8", "INT8"),
    "DEQUANTIZE": border("DEQUANTIZE", "INT8", "FLOAT32"),
}
