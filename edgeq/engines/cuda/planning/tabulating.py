"""Sums and products of one value with functions of itself -> tables, as every function of int8 is.

x * LOGISTIC(x) is the activation of many detectors (SiLU), x * RELU6(x + 3) / 6 that of many small
nets: as one table it goes into the convolution before it, and two passes over memory are saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.program.edges import sole_reader, with_nodes, writers
from edgeq.engines.cuda.program.nodes import (
    Datatype,
    Dequantize,
    Extremum,
    Int8s,
    Lookup,
    Node,
    Product,
    Program,
    Sum,
    Value,
)
from edgeq.engines.cuda.program.reference import evaluate

LEVELS: Int8s = np.arange(-128, 128).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Origin:
    """A value as a function of another one, by a table; `lookup` is the node, if there is one."""

    x: int
    table: Int8s
    lookup: int | None = None


def tabulate(program: Program, position: int) -> Program | None:
    """Make one table of a sum or product whose operands are both functions of the same value."""
    node = program.nodes[position]
    if not isinstance(node, Sum | Extremum | Product):
        return None
    ends = [program.values[value] for value in (node.a, node.b, node.y)]
    if len({(end.shape, end.datatype) for end in ends}) > 1:
        return None
    found = [
        (a, b)
        for a in _origins(program, node.a)
        for b in _origins(program, node.b)
        if a.x == b.x and a.x not in program.constants
    ]
    if not found:
        return None
    a, b = found[0]
    lookup = Lookup(
        a.x, node.y, _evaluated(replace(node, a=0, b=1, y=2), [a.table, b.table], "int8")
    )
    unread = {
        origin.lookup
        for origin, value in ((a, node.a), (b, node.b))
        if origin.lookup is not None and sole_reader(program, value) == position
    }
    return with_nodes(program, {position: lookup}, sorted(unread))


def tabulate_floats(program: Program, position: int) -> Program | None:
    """Let a table that is only dequantized hold the floats."""
    node = program.nodes[position]
    if not isinstance(node, Dequantize) or node.x in program.outputs:
        return None
    origin = next((o for o in _origins(program, node.x) if o.lookup is not None), None)
    if origin is None or origin.lookup is None or sole_reader(program, node.x) != position:
        return None
    floats = _evaluated(replace(node, x=0, y=1), [origin.table], "float32")
    lookup = Lookup(origin.x, node.y, floats)
    return with_nodes(program, {position: lookup}, [origin.lookup])


def _origins(program: Program, value: int) -> Iterator[Origin]:
    """Yield the value itself, then what a table makes it of."""
    yield Origin(value, LEVELS)
    found = writers(program)[value]
    node = program.nodes[found[0]] if len(found) == 1 else None
    if isinstance(node, Lookup) and _is_alike(program.values[node.x], program.values[value]):
        yield Origin(node.x, node.table, found[0])


def _is_alike(one: Value, other: Value) -> bool:
    return (one.shape, one.datatype) == (other.shape, other.datatype)


def _evaluated(node: Node, tables: Sequence[Int8s], datatype: Datatype) -> npt.NDArray[Any]:
    """Return a node's result, value number len(tables), where it reads these tables."""
    inputs = tuple(range(len(tables)))
    values = [
        *(Value("x", LEVELS.shape, "int8") for _ in inputs),
        Value("y", LEVELS.shape, datatype),
    ]
    program = Program(tuple(values), (node,), inputs, (len(tables),))
    return evaluate(program, dict(enumerate(tables)))[len(tables)]
