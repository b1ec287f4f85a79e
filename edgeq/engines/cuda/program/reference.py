"""A Program + inputs -> every value of it, with numpy: the formula that each kernel is held to.

Sums of products run in float matrix products where every partial sum is an integer that the type
holds exactly, so that a whole net takes seconds and not minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.program.nodes import (
    Addition,
    Axis,
    BilinearResize,
    Chain,
    ChannelLookup,
    Convolution,
    Dense,
    Depthwise,
    Dequantize,
    Epilogue,
    Extremum,
    Lookup,
    MatrixProduct,
    Mean,
    Move,
    NearestResize,
    Node,
    Pooling,
    Product,
    Program,
    Quantize,
    Requantization,
    Reshape,
    RoundedTwice,
    Softmax,
    Sum,
    TransposedConvolution,
    Window,
)

Array = npt.NDArray[Any]
Values = dict[int, Array]

EXACT_FLOAT32 = 2**24  # integers up to here
BEYOND_INT8 = np.float32(1024)  # saturates whatever the zero point


def evaluate(program: Program, inputs: Mapping[int, Array]) -> Values:
    """Return every value of the program by its index, in its own shape and type."""
    values: Values = {**program.constants, **inputs}
    for node in _plain(program.nodes):
        value = program.values[node.y]
        if isinstance(node, Move):
            whole = values.setdefault(node.y, np.zeros(value.shape, value.datatype))
            _move(node, values[node.x], whole)
        else:
            result = _saturated(_EVALUATE[type(node)](node, values), value.datatype)
            values[node.y] = result.reshape(value.shape)
    return values


def _plain(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield the nodes, a chain's parts in its place."""
    for node in nodes:
        if isinstance(node, Chain):
            yield from _plain(node.parts)
        else:
            yield node


def _saturated(result: Array, datatype: str) -> Array:
    if result.dtype == datatype:
        return result
    limit = np.iinfo(datatype)
    return np.clip(result, limit.min, limit.max).astype(datatype)


# ---- from accumulators to int8


def requantize(accumulators: Array, requantization: Requantization) -> Array:
    """Return int8 of int32 accumulators [..., C]."""
    biased = accumulators.astype(np.int32) + requantization.bias
    r = requantization
    return _rounded(biased, r.scale, r.zero_point, r.low, r.high)


def add(a: Array, b: Array, addition: Addition) -> Array:
    """Return int8 of two int8 arrays."""
    total = a.astype(np.int32) * np.int32(addition.a_factor)
    total = total + b.astype(np.int32) * np.int32(addition.b_factor) + np.int32(addition.bias)
    shifted: Array = (total >> addition.shift) + addition.zero_point
    return np.clip(shifted, addition.low, addition.high).astype(np.int8)


def _rounded(whole: Array, scale: Any, zero_point: int, low: int, high: int) -> Array:
    """Scale int32 in float32, clamp, round to even, add the zero point."""
    scaled = whole.astype(np.float32) * np.asarray(scale, np.float32)
    clamped = np.clip(scaled, np.float32(low - zero_point), np.float32(high - zero_point))
    result: Array = np.rint(clamped).astype(np.int32) + zero_point
    return result.astype(np.int8)


def _finish(accumulators: Array, epilogue: Epilogue, values: Values) -> Array:
    result, table = requantize(accumulators, epilogue.requantization), epilogue.table
    if table is not None and epilogue.is_table_first:
        result = _looked_up(table, result)
    if epilogue.addition is not None and epilogue.other is not None:
        other = values[epilogue.other].reshape(result.shape)
        result = add(result, other, epilogue.addition)
    return result if table is None or epilogue.is_table_first else _looked_up(table, result)


def _looked_up(table: Array, x: Array) -> Array:
    result: Array = table[x if x.dtype == np.uint8 else x.astype(np.int32) + 128]
    return result


# ---- products


def product(x: Array, weights: Array) -> Array:
    """Return the int32 matrix product of integers [..., K] and [..., K, O], exactly."""
    largest = x.shape[-1] * _magnitude(x) * _magnitude(weights)
    exact = np.float32 if largest <= EXACT_FLOAT32 else np.float64
    whole: Array = np.matmul(x.astype(exact), weights.astype(exact))
    return whole.astype(np.int64).astype(np.int32)


def _magnitude(x: Array) -> int:
    """Return what no value exceeds: int8 itself, or int8 less its zero point."""
    return 128 if x.dtype == np.int8 else 255


def _taps(x: Array, window: Window, zero_point: int) -> Iterator[tuple[int, int, Array]]:
    """Yield each position of the window, and what it sees: [N, OH, OW, C]."""
    widths = ((0, 0), *zip(window.before, window.after, strict=True), (0, 0))
    padded = np.pad(x, widths, constant_values=zero_point)
    (kh, kw), (sh, sw), (dh, dw) = window.size, window.stride, window.dilation
    rows = (padded.shape[1] - (kh - 1) * dh - 1) // sh + 1
    columns = (padded.shape[2] - (kw - 1) * dw - 1) // sw + 1
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            yield i, j, padded[:, top:, left:][:, ::sh, ::sw][:, :rows, :columns]


def _convolution(node: Convolution, values: Values) -> Array:
    total: Any = np.int32(0)
    for i, j, seen in _taps(values[node.x], node.window, node.zero_point):
        total = total + product(seen, node.weights[:, i, j].T)
    return _finish(total, node.epilogue, values)


def _depthwise(node: Depthwise, values: Values) -> Array:
    x = values[node.x]
    repeated = np.repeat(x, node.weights.shape[-1] // x.shape[-1], axis=-1)
    total: Any = np.int32(0)
    for i, j, seen in _taps(repeated, node.window, node.zero_point):
        total = total + seen.astype(np.int32) * node.weights[i, j].astype(np.int32)
    return _finish(total, node.epilogue, values)


def _dense(node: Dense, values: Values) -> Array:
    x = values[node.x].reshape(-1, node.weights.shape[1])
    return _finish(product(x, node.weights.T), node.epilogue, values)


def _transposed_convolution(node: TransposedConvolution, values: Values) -> Array:
    x = values[node.x].astype(np.int32) - node.zero_point
    (n, h, w, _), (sh, sw), (kh, kw) = x.shape, node.window.stride, node.window.size
    whole = np.zeros((n, (h - 1) * sh + kh, (w - 1) * sw + kw, len(node.weights)), np.int32)
    for i in range(kh):
        for j in range(kw):
            rows, columns = slice(i, i + h * sh, sh), slice(j, j + w * sw, sw)
            whole[:, rows, columns] += product(x, node.weights[:, i, j].T)
    return _finish(_cropped(whole, node.window), node.epilogue, values)


def _cropped(whole: Array, window: Window) -> Array:
    """Take `before` and `after` off; a negative one is room that nothing is scattered to."""
    for axis, pair in enumerate(zip(window.before, window.after, strict=True), start=1):
        widths = [(0, 0)] * whole.ndim
        widths[axis] = (max(-pair[0], 0), max(-pair[1], 0))
        whole = np.pad(whole, widths)
        kept = range(whole.shape[axis])[max(pair[0], 0) : whole.shape[axis] - max(pair[1], 0)]
        whole = whole.take(kept, axis)
    return whole


def _matrix_product(node: MatrixProduct, values: Values) -> Array:
    a = values[node.a].astype(np.int32) - node.a_zero_point
    b = values[node.b].astype(np.int32) - node.b_zero_point
    a = a.swapaxes(-1, -2) if node.a_transposed else a
    b = b.swapaxes(-1, -2) if node.b_transposed else b
    accumulators = product(a, b)
    if node.fixed is None:
        return requantize(accumulators, node.requantization)
    r = node.requantization
    scaled: Array = _rounded_twice(accumulators, node.fixed) + r.zero_point
    return np.clip(scaled, r.low, r.high).astype(np.int8)


def _rounded_twice(accumulators: Array, fixed: RoundedTwice) -> Array:
    """Scale int32, each of the two shifts with a rounding of its own."""
    shifted: Array = accumulators.astype(np.int64) << fixed.left
    high: Array = (shifted * fixed.multiplier + (1 << 30)) >> 31
    half = (1 << fixed.right) >> 1
    rounded: Array = (np.abs(high) + half) >> fixed.right
    return np.where(high < 0, -rounded, rounded)


# ---- one value at a time


def _sum(node: Sum, values: Values) -> Array:
    return add(values[node.a], values[node.b], node.addition)


def _extremum(node: Extremum, values: Values) -> Array:
    choose = np.maximum if node.kind == "maximum" else np.minimum
    result: Array = choose(values[node.a], values[node.b])
    return result


def _product(node: Product, values: Values) -> Array:
    a = values[node.a].astype(np.int32) - node.a_zero_point
    b = values[node.b].astype(np.int32) - node.b_zero_point
    if node.fixed is None:
        return _rounded(a * b, node.scale, node.zero_point, node.low, node.high)
    fixed = node.fixed
    shifted: Array = (a * b) << fixed.left
    scaled: Array = (shifted.astype(np.int64) * fixed.multiplier) >> 31
    rounded: Array = (scaled + (1 << (fixed.right - 1))) >> fixed.right
    result: Array = np.clip(rounded + node.zero_point, node.low, node.high)
    return result.astype(np.int8)


def _lookup(node: Lookup, values: Values) -> Array:
    return _looked_up(node.table, values[node.x])


def _channel_lookup(node: ChannelLookup, values: Values) -> Array:
    x = values[node.x].astype(np.int32) + 128
    result: Array = node.tables[np.arange(x.shape[-1]), x]
    return result


def _quantize(node: Quantize, values: Values) -> Array:
    with np.errstate(over="ignore"):
        scaled = values[node.x] * np.float32(node.inverse_scale)
    known = np.where(np.isnan(scaled), BEYOND_INT8, scaled)
    levels: Array = np.rint(np.clip(known, -BEYOND_INT8, BEYOND_INT8)).astype(np.int32)
    return levels + node.zero_point


def _dequantize(node: Dequantize, values: Values) -> Array:
    centred: Array = values[node.x].astype(np.int32) - node.zero_point
    result: Array = centred.astype(np.float32) * np.float32(node.scale)
    return result


# ---- many values to one


def _pooling(node: Pooling, values: Values) -> Array:
    x = values[node.x].astype(np.int32)
    if node.kind == "maximum":
        tops = [seen for _, _, seen in _taps(x, node.window, -128)]
        highest: Array = np.max(tops, axis=0)
        return np.clip(highest, node.low, node.high)
    total: Any = sum(seen for _, _, seen in _taps(x, node.window, 0))
    count: Any = sum(seen for _, _, seen in _taps(np.ones_like(x[:1]), node.window, 0))
    return np.clip(_half_away(total, count), node.low, node.high)


def _half_away(total: Array, count: Array) -> Array:
    """Divide integers and round, a half away from zero."""
    magnitude: Array = (np.abs(total) + count // 2) // count
    return np.where(total < 0, -magnitude, magnitude)


def _mean(node: Mean, values: Values) -> Array:
    x = values[node.x].astype(np.int32).reshape(node.outer, node.count, node.inner)
    total: Array = x.sum(axis=1, dtype=np.int32)
    scaled: Array = total.astype(np.float32) * np.float32(node.scale) + np.float32(node.offset)
    return np.clip(np.rint(scaled), node.low, node.high).astype(np.int8)


def _softmax(node: Softmax, values: Values) -> Array:
    """Sum in float32 from the first to the last, as the CPU does: another order rounds otherwise.

    Source: LiteRT, optimized_ops.h, Softmax for int8.
    """
    x = values[node.x].astype(np.int32).reshape(-1, node.depth)
    terms = node.table[x.max(axis=1, keepdims=True) - x]
    total = np.zeros((len(x), 1), np.float32)
    for position in range(node.depth):
        total = total + terms[:, position : position + 1]
    inverse = np.float32(1) / (total * np.float32(node.scale))
    scaled = (terms * inverse).astype(np.float64)  # so that adding a half is exact
    rounded: Array = np.floor(scaled + 0.5).astype(np.int32)
    return rounded + node.zero_point


# ---- places


def _move(node: Move, x: Array, y: Array) -> None:
    """Write the node's box of y."""
    source: Any = np.int64(0)
    inside: Any = np.bool_(True)
    target: Any = np.int64(node.offset)
    for axis, y_stride in zip(node.axes, node.y_strides, strict=True):
        index, held = _read_indices(axis, node)
        source = np.add.outer(source, index * axis.stride)
        inside = np.logical_and.outer(inside, held)
        target = np.add.outer(target, np.arange(axis.size) * y_stride)
    read = x.reshape(-1)[np.where(inside, source, 0)]
    y.reshape(-1)[target] = np.where(inside, read, np.asarray(node.fill, x.dtype))


def _read_indices(axis: Axis, node: Move) -> tuple[Array, Array]:
    """Return where in x each index of y reads, and whether x has it."""
    index: Array = np.arange(axis.size) * axis.step + axis.start
    if node.mirror:
        edge = 1 if node.mirror == "symmetric" else 0
        index = np.where(index < 0, -index - edge, index)
        last = 2 * (axis.extent - 1) + edge
        index = np.where(index >= axis.extent, last - index, index)
    return index, (index >= 0) & (index < axis.extent)


def _reshape(node: Reshape, values: Values) -> Array:
    return values[node.x]


def _nearest_resize(node: NearestResize, values: Values) -> Array:
    result: Array = values[node.x][:, node.rows][:, :, node.columns]
    return result


def _bilinear_resize(node: BilinearResize, values: Values) -> Array:
    """Interpolate between columns, then rows: weights of 11 bits, one rounding, half up.

    Source: XNNPACK, s8-ibilinear/scalar.
    """
    x = values[node.x].astype(np.int32)
    across = node.column_weights[np.newaxis, np.newaxis, :, np.newaxis]
    down = node.row_weights[np.newaxis, :, np.newaxis, np.newaxis]
    top, bottom = (_between_columns(x[:, rows], node, across) for rows in node.rows.T)
    return np.right_shift((top << 11) + (bottom - top) * down + 0x200000, 22)


def _between_columns(x: Array, node: BilinearResize, weights: Array) -> Array:
    left, right = x[:, :, node.columns[:, 0]], x[:, :, node.columns[:, 1]]
    result: Array = (left << 11) + (right - left) * weights
    return result


_EVALUATE: dict[type[Node], Callable[[Any, Values], Array]] = {
    Convolution: _convolution,
    Depthwise: _depthwise,
    Dense: _dense,
    TransposedConvolution: _transposed_convolution,
    MatrixProduct: _matrix_product,
    Sum: _sum,
    Extremum: _extremum,
    Product: _product,
    Lookup: _lookup,
    ChannelLookup: _channel_lookup,
    Pooling: _pooling,
    Mean: _mean,
    Softmax: _softmax,
    Reshape: _reshape,
    NearestResize: _nearest_resize,
    BilinearResize: _bilinear_resize,
    Quantize: _quantize,
    Dequantize: _dequantize,
}
