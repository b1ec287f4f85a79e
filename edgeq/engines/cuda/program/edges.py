"""A Program -> who reads and who writes each value, and the program with other nodes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from edgeq.engines.cuda.program.nodes import Axis, Chain, Epilogue, Move, Node, Program

READ_FIELDS = ("x", "a", "b")
NodeType = TypeVar("NodeType", bound=Node)


def reads(node: Node) -> tuple[int, ...]:
    """Return the values that a node reads, constants too; one that it reads twice stands twice."""
    if isinstance(node, Chain):
        return tuple(v for part in node.parts for v in reads(part) if v not in node.between)
    own = [getattr(node, name) for name in READ_FIELDS if hasattr(node, name)]
    epilogue = getattr(node, "epilogue", None)
    if isinstance(epilogue, Epilogue) and epilogue.other is not None:
        own.append(epilogue.other)
    return tuple(own)


def touches(node: Node) -> tuple[int, ...]:
    """Return the values that need a place while a node is carried out."""
    between = node.between if isinstance(node, Chain) else ()
    return (*reads(node), *between, node.y)


def readers(program: Program) -> Mapping[int, list[int]]:
    """Return for each value the positions of the nodes that read it."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for position, node in enumerate(program.nodes):
        for value in dict.fromkeys(reads(node)):
            found[value].append(position)
    return found


def writers(program: Program) -> Mapping[int, list[int]]:
    """Return for each value the positions of the nodes that write it."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for position, node in enumerate(program.nodes):
        found[node.y].append(position)
    return found


def sole_reader(program: Program, value: int) -> int | None:
    """Return the position of the one node that reads `value`; None if others need it too."""
    if value in program.outputs:
        return None
    found = readers(program)[value]
    return found[0] if len(found) == 1 else None


def with_nodes(
    program: Program, changed: Mapping[int, Node], removed: Sequence[int] = ()
) -> Program:
    """Return the program with some nodes replaced in their places and others left out.

    The label of the first replaced node takes in the labels of those left out, in their order.
    """
    gone = set(removed)
    kept = [p for p in range(len(program.nodes)) if p not in gone]
    labels = list(program.labels)
    if labels and changed:
        place = min(changed)
        labels[place] = " + ".join(labels[p] for p in sorted({place, *gone}))
    return replace(
        program,
        nodes=tuple(changed.get(p, program.nodes[p]) for p in kept),
        labels=tuple(labels[p] for p in kept) if labels else (),
    )


def copying(program: Program, x: int, y: int) -> Move:
    """Return the node that copies all of value `x` into `y`, of as many elements."""
    shape = program.values[x].shape or (1,)
    strides = dense_strides(shape)
    axes = tuple(Axis(n, extent=n, stride=s) for n, s in zip(shape, strides, strict=True))
    return Move(x, y, axes, strides)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the elements from one index to the next in each dimension of a dense value."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))
