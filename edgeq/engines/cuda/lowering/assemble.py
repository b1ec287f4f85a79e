"""Lowered ops -> one Program of their nodes, with values numbered anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from edgeq.engines.cuda.lowering.table import LoweredOp, Lowering
from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.edges import reads
from edgeq.engines.cuda.program.nodes import Node, Program

REFERENCES = ("x", "a", "b", "y")


def assemble(
    lowering: Lowering, ops: Iterable[LoweredOp], inputs: Sequence[int], outputs: Sequence[int]
) -> Program:
    """Return the Program of `ops`, which stand in an order in which they can run.

    Args:
        lowering: where the ops and their values come from.
        ops: those to take; each has nodes.
        inputs: tensors of the graph that are given.
        outputs: tensors of the graph that are wanted.

    Raises:
        EngineError: the nodes do not make a program.
    """
    labelled = [(node, f"{own.op.position} {own.op.name}") for own in ops for node in own.nodes]
    used = dict.fromkeys([*inputs, *outputs])
    for node, _ in labelled:
        used |= dict.fromkeys([*reads(node), node.y])
    new = {old: index for index, old in enumerate(used)}
    program = Program(
        values=tuple(lowering.values[old] for old in used),
        nodes=tuple(renumbered(node, new) for node, _ in labelled),
        inputs=tuple(new[t] for t in inputs),
        outputs=tuple(new[t] for t in outputs),
        constants={new[t]: array for t, array in lowering.constants.items() if t in new},
        labels=tuple(label for _, label in labelled),
    )
    check_program(program)
    return program


def renumbered(node: Node, new: dict[int, int]) -> Node:
    """Return a node as it was lowered, nothing fused into it yet, with other values."""
    changed: dict[str, Any] = {
        name: new[getattr(node, name)] for name in REFERENCES if hasattr(node, name)
    }
    return dataclasses.replace(node, **changed)
