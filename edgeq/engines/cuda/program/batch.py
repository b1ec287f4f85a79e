"""A Program for one sample -> the Program for several, stacked along the first dimension."""

from __future__ import annotations

import dataclasses
import math

from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.edges import reads
from edgeq.engines.cuda.program.nodes import (
    Axis,
    Extremum,
    MatrixProduct,
    Mean,
    Move,
    Node,
    Product,
    Program,
    Sum,
    Value,
)
from edgeq.errors import EngineError


def with_batch(program: Program, count: int) -> Program:
    """Return the program whose every value is that of `count` runs of `program`, stacked.

    A value [d, ...] becomes [count * d, ...], whatever its first dimension means; constants stay
    one for all.

    Raises:
        EngineError: a value has no dimension to stack along, or an op broadcasts or multiplies
            across the first one.
    """
    if count == 1:
        return program
    values = tuple(
        value if index in program.constants else _stacked(value, count)
        for index, value in enumerate(program.values)
    )
    nodes = tuple(_node(program, node, count) for node in program.nodes)
    batched = dataclasses.replace(program, values=values, nodes=nodes)
    try:
        check_program(batched)
    except EngineError as error:
        raise _fail(error.message) from error
    return batched


def _stacked(value: Value, count: int) -> Value:
    if not value.shape:
        raise _fail(f"value {value.name!r} is a scalar")
    return dataclasses.replace(value, shape=(count * value.shape[0], *value.shape[1:]))


def _fail(what: str) -> EngineError:
    return EngineError(f"the model cannot run in batches: {what}", hint="Serve it one by one.")


def _node(program: Program, node: Node, count: int) -> Node:
    if isinstance(node, Move):
        return _move(program, node, count)
    if isinstance(node, Mean):
        return dataclasses.replace(node, outer=node.outer * count)
    if isinstance(node, Sum | Extremum | Product | MatrixProduct):
        _require_stackable(program, node)
    elif program.constants.keys() & set(reads(node)):
        raise _fail(f"a {type(node).__name__} reads a constant")
    return node


def _require_stackable(program: Program, node: Sum | Extremum | Product | MatrixProduct) -> None:
    """Refuse what broadcasts, or multiplies, across the dimension that is stacked."""
    y = program.values[node.y].shape
    if isinstance(node, MatrixProduct) and len(y) == 2:
        if node.b not in program.constants or node.a_transposed:
            raise _fail("a matrix product has no dimension for the batch")
        return
    for index in (node.a, node.b):
        shape = program.values[index].shape
        if index in program.constants:
            fits = len(shape) < len(y) or shape[0] == 1
        else:
            fits = len(shape) == len(y) and shape[0] == y[0]
        if not fits:
            raise _fail(f"{list(shape)} is broadcast to {list(y)}")


def _move(program: Program, node: Move, count: int) -> Move:
    x, y = (math.prod(program.values[index].shape) for index in (node.x, node.y))
    if node.x not in program.constants and _is_stacked_already(node, x, y):
        first = node.axes[0]
        longer = dataclasses.replace(first, size=first.size * count, extent=first.extent * count)
        return dataclasses.replace(node, axes=(longer, *node.axes[1:]))
    samples = Axis(count, extent=count, stride=0 if node.x in program.constants else x)
    return dataclasses.replace(node, axes=(samples, *node.axes), y_strides=(y, *node.y_strides))


def _is_stacked_already(node: Move, x_size: int, y_size: int) -> bool:
    """Say whether the first axis goes over whole slices, so that more samples are more of them."""
    if not node.axes:
        return False
    first = node.axes[0]
    return (
        (first.start, first.step, first.extent) == (0, 1, first.size)
        and first.stride * first.extent == x_size
        and node.y_strides[0] * first.size == y_size
    )
