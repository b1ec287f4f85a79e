"""A Program -> the same values in fewer nodes: padding, additions and tables go into producers.

Every pass keeps each remaining value bit for bit. Source: the fusions that every inference
compiler makes (TensorRT's "vertical fusion"), but for the residual addition, which is done in the
registers of the convolution after both requantizations, so that it stays exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeq.engines.cuda.planning.joining import join_parts
from edgeq.engines.cuda.planning.tabulating import tabulate, tabulate_floats
from edgeq.engines.cuda.program.edges import readers, sole_reader, with_nodes, writers
from edgeq.engines.cuda.program.nodes import (
    Convolution,
    Dense,
    Depthwise,
    Lookup,
    Move,
    Node,
    Program,
    Sum,
    TransposedConvolution,
    Window,
)

Accumulating = (Convolution, Depthwise, Dense, TransposedConvolution)
Windowed = (Convolution, Depthwise)
Step = Callable[[Program, int], Program | None]  # one rewrite at a node, or None


def fuse(program: Program, check: Callable[[Program], None]) -> Program:
    """Apply every pass until nothing changes; `check` is called with the result of each."""
    for step in STEPS:
        program = _exhaust(program, step)
        check(program)
    return drop_unread(program)


def _exhaust(program: Program, step: Step) -> Program:
    position = 0
    while position < len(program.nodes):
        rewritten = step(program, position)
        if rewritten is None:
            position += 1
        else:
            program, position = rewritten, max(0, position - 1)
    return program


def fold_padding(program: Program, position: int) -> Program | None:
    """Let convolutions pad for themselves, where a PAD before them holds their zero point."""
    pad = program.nodes[position]
    if not isinstance(pad, Move) or (margins := _margins(program, pad)) is None:
        return None
    users = readers(program)[pad.y]
    if pad.y in program.outputs or not users:
        return None
    before, after = margins
    changed: dict[int, Node] = {}
    for user in users:
        node = program.nodes[user]
        if not isinstance(node, Windowed) or node.zero_point != pad.fill:
            return None
        changed[user] = replace(node, x=pad.x, window=_padded(node.window, before, after))
    return with_nodes(program, changed, [position])


def _margins(program: Program, pad: Move) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return what a Move adds before and after height and width, if that is all it does."""
    x, y = program.values[pad.x].shape, program.values[pad.y].shape
    if pad.mirror or pad.offset or len(x) != 4 or tuple(a.size for a in pad.axes) != y:
        return None
    dense = [int(np.prod(x[d + 1 :])) for d in range(4)]
    if any((a.step, a.extent, a.stride) != (1, x[d], dense[d]) for d, a in enumerate(pad.axes)):
        return None
    before = [-axis.start for axis in pad.axes]
    after = [axis.start + axis.size - axis.extent for axis in pad.axes]
    if min(*before, *after) < 0 or any((before[0], before[3], after[0], after[3])):
        return None
    return (before[1], before[2]), (after[1], after[2])


def _padded(window: Window, before: tuple[int, int], after: tuple[int, int]) -> Window:
    return replace(
        window,
        before=(window.before[0] + before[0], window.before[1] + before[1]),
        after=(window.after[0] + after[0], window.after[1] + after[1]),
    )


def merge_tables(program: Program, position: int) -> Program | None:
    """Make one table of two that follow each other."""
    first = program.nodes[position]
    if not isinstance(first, Lookup) or program.values[first.y].datatype != "int8":
        return None
    reader = sole_reader(program, first.y)
    if reader is None or not isinstance(second := program.nodes[reader], Lookup):
        return None
    merged = replace(second, x=first.x, table=_composed(first.table, second.table))
    return with_nodes(program, {reader: merged}, [position])


def fuse_addition(program: Program, position: int) -> Program | None:
    """Let a convolution add the residual to its result before it stores it."""
    addition = program.nodes[position]
    if not isinstance(addition, Sum) or addition.a == addition.b:
        return None
    shape = program.values[addition.y].shape
    sides = [(addition.a, addition.b), (addition.b, addition.a)]
    produced = [(found[-1], a, b) for a, b in sides if (found := writers(program)[a])]
    for producer, own, other in sorted(produced, reverse=True):  # the later one first
        node = program.nodes[producer]
        if (
            not isinstance(node, Accumulating)
            or node.epilogue.addition
            or sole_reader(program, own) != position
            or {program.values[own].shape, program.values[other].shape} != {shape}
        ):
            continue
        oriented = addition.addition
        if own == addition.b:
            oriented = replace(oriented, a_factor=oriented.b_factor, b_factor=oriented.a_factor)
        is_table_first = node.epilogue.table is not None
        epilogue = replace(
            node.epilogue, addition=oriented, other=other, is_table_first=is_table_first
        )
        fused = replace(node, y=addition.y, epilogue=epilogue)
        return with_nodes(program, {position: fused}, [producer])
    return None


def fuse_table(program: Program, position: int) -> Program | None:
    """Let a convolution look its result up in the table of the activation that follows."""
    lookup = program.nodes[position]
    if not isinstance(lookup, Lookup) or program.values[lookup.y].datatype != "int8":
        return None
    found = writers(program)[lookup.x]
    if not found or sole_reader(program, lookup.x) != position:
        return None
    node = program.nodes[found[-1]]
    if not isinstance(node, Accumulating) or node.epilogue.is_table_first:
        return None
    first = node.epilogue.table
    table = lookup.table if first is None else _composed(first, lookup.table)
    fused = replace(node, y=lookup.y, epilogue=replace(node.epilogue, table=table))
    return with_nodes(program, {position: fused}, [found[-1]])


def _composed(
    first: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
    second: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return second[first.astype(np.int32) + 128]


STEPS: tuple[Step, ...] = (
    fold_padding,
    tabulate,
    merge_tables,
    fuse_addition,
    fuse_table,
    fuse_addition,  # once more: to what has its activation now
    tabulate_floats,
    join_parts,
)


def drop_unread(program: Program) -> Program:
    """Leave out nodes whose value nobody reads."""
    while True:
        used = set(readers(program)) | set(program.outputs)
        unread = [p for p, node in enumerate(program.nodes) if node.y not in used]
        if not unread:
            return program
        program = with_nodes(program, {}, unread)
