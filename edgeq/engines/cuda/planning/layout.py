"""A fused Program -> where every value lies: views in one arena, in the inputs and the outputs.

Channels of [N, H, W, C] are padded to what the target's kernels load at once (16 int8 for tensor
cores, 4 for dp4a), unless something reads the value as one dense run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeq.engines.cuda.launch import Pointer, View
from edgeq.engines.cuda.planning.aliasing import Aliases, find_aliases
from edgeq.engines.cuda.planning.arena import Tenant, pack
from edgeq.engines.cuda.program.edges import copying, touches, with_nodes
from edgeq.engines.cuda.program.nodes import Chain, Dense, Mean, Move, Node, Program, Reshape
from edgeq.engines.cuda.targets import Target

ITEMSIZE = {"int8": 1, "uint8": 1, "int32": 4, "float32": 4}


@dataclass(frozen=True)
class Layout:
    """A program whose every remaining node is carried out, and where its values lie.

    Constant values have no view here: they are placed when a kernel asks for them.
    """

    program: Program
    views: Mapping[int, View]
    arena_bytes: int


def lay_out(program: Program, target: Target) -> Layout:
    """Give every value that is read or written its place."""
    aliases = find_aliases(program)
    spelled = _spelled_out(program, aliases)
    pitches = _pitches(spelled, aliases, target)
    offsets, arena_bytes = _arena(spelled, aliases, pitches)
    views: dict[int, View] = {}
    for value in _values(spelled, aliases):
        _view(value, program, aliases, pitches, offsets, views)
    nodes = with_nodes(spelled, {}, sorted(aliases.omitted))
    return Layout(nodes, views, arena_bytes)


def _spelled_out(program: Program, aliases: Aliases) -> Program:
    """Make a copy of every Reshape that is not an alias."""
    changed: dict[int, Node] = {
        position: copying(program, node.x, node.y)
        for position, node in enumerate(program.nodes)
        if isinstance(node, Reshape) and position not in aliases.omitted
    }
    nodes = tuple(changed.get(p, node) for p, node in enumerate(program.nodes))
    return replace(program, nodes=nodes)


def _values(program: Program, aliases: Aliases) -> list[int]:
    """Return every value that needs a place, those in others included."""
    used = {v for node in program.nodes for v in touches(node)}
    used |= {*program.inputs, *program.outputs, *aliases.inside}
    return sorted(used - set(program.constants))


def _pitches(program: Program, aliases: Aliases, target: Target) -> dict[int, int]:
    """Return the pitch of each root."""
    dense = {aliases.root(v) for v in (*aliases.dense, *program.inputs, *program.outputs)}
    for position, node in enumerate(program.nodes):
        if position not in aliases.omitted:
            dense |= {aliases.root(v) for v in _read_dense(program, node)}
    return {
        root: _pitch(program, root, root in dense, target)
        for root in {aliases.root(v) for v in _values(program, aliases)}
    }


def _pitch(program: Program, value: int, dense: bool, target: Target) -> int:
    shape, datatype = program.values[value].shape, program.values[value].datatype
    channels = shape[-1] if shape else 1
    if dense or len(shape) != 4 or ITEMSIZE[datatype] != 1:
        return channels
    together = 16 if target.has_wmma and channels > 8 else 4
    return -(-channels // together) * together


def _read_dense(program: Program, node: Node) -> list[int]:
    """Return the values that a node sees as one dense run, across rows."""
    if isinstance(node, Chain):
        return [value for part in node.parts for value in _read_dense(program, part)]
    shape = program.values[node.y].shape[-1:]
    if isinstance(node, Dense):
        features = program.values[node.x].shape[-1:]
        seen = {node.x: features == node.weights.shape[1:], node.y: shape == node.weights.shape[:1]}
    elif isinstance(node, Mean):
        channels = program.values[node.x].shape[-1:]
        seen = {node.x: channels == (node.inner,), node.y: shape == (node.inner,)}
    elif isinstance(node, Move):
        x = program.values[node.x].shape
        read = [(a.stride, a.extent) for a in node.axes]
        written = [(s, a.size) for s, a in zip(node.y_strides, node.axes, strict=True)]
        seen = {node.x: _by_rows(read, x), node.y: _by_rows(written, program.values[node.y].shape)}
    else:
        return []
    return [value for value, by_rows in seen.items() if not by_rows]


def _by_rows(steps: list[tuple[int, int]], shape: tuple[int, ...]) -> bool:
    """Say whether each (stride, count) stays inside a row or goes from row to row."""
    row = shape[-1] if shape else 1
    return all(count == 1 or s % row == 0 or s * count <= row for s, count in steps)


def _arena(
    program: Program, aliases: Aliases, pitches: Mapping[int, int]
) -> tuple[dict[int, Pointer], int]:
    """Return where each root starts, and the bytes of the arena."""
    placed = {v: Pointer("input", index=i) for i, v in enumerate(program.inputs)}
    placed |= {v: Pointer("output", index=i) for i, v in enumerate(program.outputs)}
    lives: dict[int, Tenant] = {}
    for position, node in enumerate(program.nodes):
        for value in touches(node):
            root = aliases.root(value)
            if root in placed or root in program.constants:
                continue
            born = lives[root].first if root in lives else position
            lives[root] = Tenant(_bytes(program, root, pitches[root]), born, position)
    offsets, arena_bytes = pack(list(lives.values()))
    placed |= {v: Pointer("arena", o) for v, o in zip(lives, offsets, strict=True)}
    return placed, arena_bytes


def _bytes(program: Program, value: int, pitch: int) -> int:
    shape = program.values[value].shape
    return math.prod(shape[:-1]) * pitch * ITEMSIZE[program.values[value].datatype]


def _view(
    value: int,
    program: Program,
    aliases: Aliases,
    pitches: Mapping[int, int],
    offsets: Mapping[int, Pointer],
    views: dict[int, View],
) -> View:
    """Fill in the view of a value and of all that it lies in."""
    if value in views:
        return views[value]
    shape = program.values[value].shape
    itemsize = ITEMSIZE[program.values[value].datatype]
    alias = aliases.inside.get(value)
    if alias is None:
        own = View.of(offsets[value], shape, pitches[value], itemsize)
        views[value] = replace(own, owns_padding=True)
        return views[value]
    whole = _view(alias.whole, program, aliases, pitches, offsets, views)
    pitch = whole.pitch if whole.shape[-1:] == shape[-1:] or not alias.reshaped else shape[-1]
    start = (alias.rows * whole.pitch + alias.elements) * itemsize
    pointer = replace(whole.pointer, offset=whole.pointer.offset + start)
    own = View.of(pointer, shape, pitch, itemsize)
    whole_rows = alias.reshaped or shape[-1:] == whole.shape[-1:]
    views[value] = replace(own, owns_padding=whole.owns_padding and whole_rows)
    return views[value]
