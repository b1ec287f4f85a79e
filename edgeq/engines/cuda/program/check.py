"""A Program -> nothing, or EngineError: what must hold after every pass that rewrites one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.engines.cuda.program.edges import reads
from edgeq.engines.cuda.program.nodes import (
    Addition,
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
    Pair,
    Pooling,
    Product,
    Program,
    Quantize,
    Requantization,
    Reshape,
    Softmax,
    Sum,
    TransposedConvolution,
    Window,
)
from edgeq.errors import EngineError

LONGEST_SHIFT = 31


def check_program(program: Program) -> None:
    """Check indices, order, writers, shapes and types.

    Raises:
        EngineError: names the node or value, what it is and what was expected.
    """
    _require(len(program.labels) in (0, len(program.nodes)),
             f"{len(program.labels)} labels for {len(program.nodes)} nodes")  # fmt: skip
    _check_constants(program)
    _check_order(program)
    for position, node in enumerate(program.nodes):
        try:
            _CHECK[type(node)](_Place(program, node), node)
        except EngineError as error:
            raise EngineError(f"{_name(program, position)}: {error.message}") from error


def _require(holds: Any, otherwise: str) -> None:
    if not holds:
        raise EngineError(otherwise)


def _name(program: Program, position: int) -> str:
    label = program.labels[position] if program.labels else ""
    return f"node {position} ({type(program.nodes[position]).__name__}{label and ' '}{label})"


def _check_constants(program: Program) -> None:
    for index, array in program.constants.items():
        value = program.values[index]
        _require(array.shape == value.shape and array.dtype == value.datatype,
                 f"constant {value.name!r} is {array.dtype} {list(array.shape)}; "
                 f"its value is {value.datatype} {list(value.shape)}")  # fmt: skip


def _check_order(program: Program) -> None:
    """Every value is written once, or in parts by Moves, and read only when it is whole."""
    given = {*program.inputs, *program.constants}
    last = {node.y: position for position, node in enumerate(program.nodes)}
    earlier: dict[int, Node] = {}
    for position, node in enumerate(program.nodes):
        for index in reads(node):
            is_whole = index in given or last.get(index, position) < position
            _require(
                0 <= index < len(program.values) and is_whole,
                f"{_name(program, position)} reads value {index} before it is whole",
            )
        _require(
            0 <= node.y < len(program.values) and node.y not in given,
            f"{_name(program, position)} writes value {node.y}, which is given",
        )
        in_parts = isinstance(node, Move) and isinstance(earlier.get(node.y), Move)
        _require(node.y not in earlier or in_parts,
                 f"{_name(program, position)} writes value {node.y} again")  # fmt: skip
        earlier[node.y] = node
    for index in program.outputs:
        _require(index in given or index in last, f"the output, value {index}, is never written")
    _check_parts(program)


def _check_parts(program: Program) -> None:
    """The Moves that write one value write all of it."""
    written: dict[int, int] = {}
    for node in program.nodes:
        if isinstance(node, Move):
            written[node.y] = written.get(node.y, 0) + math.prod(axis.size for axis in node.axes)
    for index, count in written.items():
        size = math.prod(program.values[index].shape)
        _require(count == size, f"Moves write {count} of the {size} elements of value {index}")


class _Place:
    """The values around one node."""

    def __init__(self, program: Program, node: Node) -> None:
        self._program = program
        self._node = node

    def check(self, part: Node) -> None:
        """Check one part of the node."""
        _CHECK[type(part)](_Place(self._program, part), part)

    def shape(self, field: str) -> tuple[int, ...]:
        index: int = getattr(self._node, field)
        return self._program.values[index].shape

    def size(self, field: str) -> int:
        return math.prod(self.shape(field))

    def require_types(self, x: tuple[str, ...], y: tuple[str, ...], *fields: str) -> None:
        """Require `x` of each of the fields, and `y` of the result."""
        for field, allowed in (*((field, x) for field in fields), ("y", y)):
            value = self._program.values[getattr(self._node, field)]
            _require(value.datatype in allowed,
                     f"{field} is {value.datatype}, not {' or '.join(allowed)}")  # fmt: skip

    def require_shape(self, expected: tuple[int, ...], field: str = "y") -> None:
        actual = self.shape(field)
        _require(actual == expected, f"{field} is {list(actual)}, not {list(expected)}")

    def require_epilogue(self, epilogue: Epilogue) -> None:
        _check_requantization(epilogue.requantization, self.shape("y")[-1])
        _require((epilogue.addition is None) == (epilogue.other is None),
                 "an addition needs another value, and the other way round")  # fmt: skip
        if epilogue.addition is not None and epilogue.other is not None:
            _check_addition(epilogue.addition)
            other = self._program.values[epilogue.other]
            _require(math.prod(other.shape) == self.size("y") and other.datatype == "int8",
                     f"the value added is {other.datatype} {list(other.shape)}")  # fmt: skip
        _require(
            epilogue.table is None or epilogue.table.shape == (256,), "a table has 256 entries"
        )


INT8 = ("int8",)
BYTES = ("int8", "uint8")


def _check_requantization(r: Requantization, channels: int) -> None:
    for name, array, datatype in (("bias", r.bias, np.int32), ("scale", r.scale, np.float32)):
        _require(
            array.shape == (channels,) and array.dtype == datatype,
            f"{name} is {array.dtype} {list(array.shape)} for {channels} channels",
        )
    _require(np.isfinite(r.scale).all() and (r.scale > 0).all(), "a scale is not positive")
    _check_bounds(r)


def _check_addition(addition: Addition) -> None:
    _require(0 < addition.shift < LONGEST_SHIFT, f"the shift is {addition.shift}")
    _check_bounds(addition)


def _check_bounds(node: Any) -> None:
    _require(-128 <= node.low <= node.high <= 127, f"the bounds are {node.low} and {node.high}")
    zero_point = getattr(node, "zero_point", 0)
    _require(-128 <= zero_point <= 127, f"the zero point is {zero_point}")


def _convolved(shape: tuple[int, ...], window: Window) -> Pair:
    def extent(axis: int) -> int:
        reach = (window.size[axis] - 1) * window.dilation[axis] + 1
        padded = shape[1 + axis] + window.before[axis] + window.after[axis]
        return (padded - reach) // window.stride[axis] + 1

    return extent(0), extent(1)


def _windowed(place: _Place, window: Window) -> tuple[int, ...]:
    x = place.shape("x")
    _require(len(x) == 4, f"x is {list(x)}; a window slides over [N, H, W, C]")
    _require(min(*window.before, *window.after) >= 0, "a window has negative padding")
    return x


def _check_convolution(place: _Place, node: Convolution) -> None:
    x = _windowed(place, node.window)
    place.require_types(INT8, INT8, "x")
    expected = (node.weights.shape[0], *node.window.size, x[3])
    _require(node.weights.shape == expected, f"weights are {list(node.weights.shape)}")
    place.require_shape((x[0], *_convolved(x, node.window), node.weights.shape[0]))
    place.require_epilogue(node.epilogue)


def _check_depthwise(place: _Place, node: Depthwise) -> None:
    x = _windowed(place, node.window)
    place.require_types(INT8, INT8, "x")
    channels = node.weights.shape[-1]
    _require(node.weights.shape == (*node.window.size, channels) and channels % x[3] == 0,
             f"weights are {list(node.weights.shape)} for x {list(x)}")  # fmt: skip
    place.require_shape((x[0], *_convolved(x, node.window), channels))
    place.require_epilogue(node.epilogue)


def _check_transposed(place: _Place, node: TransposedConvolution) -> None:
    x = place.shape("x")
    place.require_types(INT8, INT8, "x")
    expected = (node.weights.shape[0], *node.window.size, x[3])
    _require(node.weights.shape == expected, f"weights are {list(node.weights.shape)}")
    window = node.window
    extents = [
        (x[1 + d] - 1) * window.stride[d] + window.size[d] - window.before[d] - window.after[d]
        for d in range(2)
    ]
    place.require_shape((x[0], *extents, node.weights.shape[0]))
    place.require_epilogue(node.epilogue)


def _check_dense(place: _Place, node: Dense) -> None:
    outputs, depth = node.weights.shape
    place.require_types(INT8, INT8, "x")
    _require(place.shape("y")[-1] == outputs and
             place.size("x") * outputs == place.size("y") * depth,
             f"x {list(place.shape('x'))} and y {list(place.shape('y'))} do not fit "
             f"weights {[outputs, depth]}")  # fmt: skip
    place.require_epilogue(node.epilogue)


def _check_matrix_product(place: _Place, node: MatrixProduct) -> None:
    place.require_types(INT8, INT8, "a", "b")
    a, b = place.shape("a"), place.shape("b")
    rows, depth = a[-2:][::-1] if node.a_transposed else a[-2:]
    columns, other_depth = b[-2:] if node.b_transposed else b[-2:][::-1]
    _require(depth == other_depth, f"a {list(a)} and b {list(b)} do not fit")
    place.require_shape((*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns))
    _check_requantization(node.requantization, 1)


def _check_broadcast(place: _Place, node: Sum | Extremum | Product) -> None:
    place.require_types(INT8, INT8, "a", "b")
    place.require_shape(np.broadcast_shapes(place.shape("a"), place.shape("b")))
    if isinstance(node, Sum):
        _check_addition(node.addition)
    elif isinstance(node, Product):
        _check_bounds(node)


def _check_lookup(place: _Place, node: Lookup) -> None:
    place.require_types(BYTES, (str(node.table.dtype),), "x")
    _require(node.table.shape == (256,), "a table has 256 entries")
    _check_alike(place, node)


def _check_channel_lookup(place: _Place, node: ChannelLookup) -> None:
    place.require_types(INT8, INT8, "x")
    _require(node.tables.shape == (place.shape("x")[-1], 256), "a channel lacks its table")
    place.require_shape(place.shape("x"))


def _check_pooling(place: _Place, node: Pooling) -> None:
    x = _windowed(place, node.window)
    place.require_types(INT8, INT8, "x")
    place.require_shape((x[0], *_convolved(x, node.window), x[3]))
    _check_bounds(node)


def _check_mean(place: _Place, node: Mean) -> None:
    place.require_types(INT8, INT8, "x")
    _require(place.size("x") == node.outer * node.count * node.inner and
             place.size("y") == node.outer * node.inner,
             f"x {list(place.shape('x'))} and y {list(place.shape('y'))} do not fit "
             f"{[node.outer, node.count, node.inner]}")  # fmt: skip
    _check_bounds(node)


def _check_softmax(place: _Place, node: Softmax) -> None:
    place.require_types(INT8, INT8, "x")
    _check_alike(place, node)
    _require(place.shape("x")[-1:] == (node.depth,), f"the depth is {node.depth}")
    _require(node.table.shape == (256,) and node.table.dtype == np.float32, "a table is float32")


def _check_move(place: _Place, node: Move) -> None:
    _require(len(node.axes) == len(node.y_strides), "an axis lacks its stride")
    _require(place.size("y") > 0 and all(axis.size > 0 for axis in node.axes), "a box is empty")
    last = node.offset + sum(
        (axis.size - 1) * stride for axis, stride in zip(node.axes, node.y_strides, strict=True)
    )
    _require(node.offset >= 0 and last < place.size("y"), f"a box ends at {last}")
    reach = sum((axis.extent - 1) * axis.stride for axis in node.axes)
    _require(reach < place.size("x"), f"x of {place.size('x')} elements is read at {reach}")


def _check_alike(place: _Place, node: Node) -> None:
    _require(place.size("x") == place.size("y"),
             f"x {list(place.shape('x'))} and y {list(place.shape('y'))} differ")  # fmt: skip


def _check_resize(place: _Place, node: NearestResize | BilinearResize) -> None:
    place.require_types(INT8, INT8, "x")
    n, h, w, c = place.shape("x")
    place.require_shape((n, len(node.rows), len(node.columns), c))
    inside = 0 <= node.rows.min() <= node.rows.max() < h
    _require(inside and 0 <= node.columns.min() <= node.columns.max() < w, "an index is outside x")


def _check_border(place: _Place, node: Quantize | Dequantize) -> None:
    real = ("float32",)
    x, y = (real, BYTES) if isinstance(node, Quantize) else (BYTES, real)
    place.require_types(x, y, "x")
    _check_alike(place, node)


def _check_chain(place: _Place, node: Chain) -> None:
    for part, following in zip(node.parts, (*node.parts[1:], None), strict=True):
        place.check(part)
        _require(following is None or part.y in reads(following),
                 f"a {type(part).__name__} is followed by none that reads it")  # fmt: skip


_CHECK: dict[type[Node], Callable[[_Place, Any], None]] = {
    Convolution: _check_convolution,
    Depthwise: _check_depthwise,
    TransposedConvolution: _check_transposed,
    Dense: _check_dense,
    MatrixProduct: _check_matrix_product,
    Sum: _check_broadcast,
    Extremum: _check_broadcast,
    Product: _check_broadcast,
    Lookup: _check_lookup,
    ChannelLookup: _check_channel_lookup,
    Pooling: _check_pooling,
    Mean: _check_mean,
    Softmax: _check_softmax,
    Move: _check_move,
    Reshape: _check_alike,
    NearestResize: _check_resize,
    BilinearResize: _check_resize,
    Quantize: _check_border,
    Dequantize: _check_border,
    Chain: _check_chain,
}
