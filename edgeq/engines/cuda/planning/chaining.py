"""A Program -> the same with chains of nodes that one kernel may carry out.

A depthwise convolution and the 1 x 1 convolution after it; the end of a classifier: global average,
fully-connected layer, softmax, dequantization. What a chain is carried out by is chosen later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeq.engines.cuda.program.edges import sole_reader, with_nodes, writers
from edgeq.engines.cuda.program.nodes import (
    Chain,
    Convolution,
    Dense,
    Depthwise,
    Dequantize,
    Mean,
    Node,
    Pooling,
    Program,
    Reshape,
    Softmax,
)

Follows = Callable[[Program, Node, Node], bool]


def chain(program: Program) -> Program:
    """Join every chain; values that other nodes or the outputs need stay where they are."""
    program = _past_reshapes(_as_dense(program))
    position = 0
    while position < len(program.nodes):
        *removed, last = _chain_at(program, position)
        if removed:
            joined = Chain(tuple(program.nodes[p] for p in (*removed, last)))
            program = with_nodes(program, {last: joined}, removed)
        else:
            position += 1
    return program


def _as_dense(program: Program) -> Program:
    """See 1 x 1 convolutions of images of one pixel as the fully-connected layers that they are."""
    changed: dict[int, Node] = {}
    for position, node in enumerate(program.nodes):
        if not isinstance(node, Convolution) or not _is_pointwise(node):
            continue
        if program.values[node.x].shape[1:3] == (1, 1):
            weights = node.weights.reshape(len(node.weights), -1)
            changed[position] = Dense(node.x, node.y, weights, node.zero_point, node.epilogue)
    nodes = tuple(changed.get(p, node) for p, node in enumerate(program.nodes))
    return replace(program, nodes=nodes)


def _past_reshapes(program: Program) -> Program:
    """Let fully-connected layers read what is reshaped for them, and write what theirs becomes.

    They see rows, whatever the shape.
    """
    for position, node in enumerate(program.nodes):
        if not isinstance(node, Dense):
            continue
        found, reader = writers(program)[node.x], sole_reader(program, node.y)
        before = program.nodes[found[-1]] if found else None
        if isinstance(before, Reshape) and sole_reader(program, node.x) == position:
            straight = replace(node, x=before.x)
            return _past_reshapes(with_nodes(program, {position: straight}, [found[-1]]))
        if reader is None:
            continue
        after = program.nodes[reader]
        if isinstance(after, Reshape) and _keeps_rows(program, node, after):
            straight = replace(node, y=after.y)
            return _past_reshapes(with_nodes(program, {position: straight}, [reader]))
    return program


def _keeps_rows(program: Program, node: Dense, reshape: Reshape) -> bool:
    return program.values[reshape.y].shape[-1:] == node.weights.shape[:1]


def _chain_at(program: Program, position: int) -> list[int]:
    """Return the positions of the chain that begins here; of one node, where there is none."""
    found = [position]
    while True:
        node = program.nodes[found[-1]]
        reader = sole_reader(program, node.y)
        if reader is None or not _follows(program, node, program.nodes[reader]):
            return found
        found.append(reader)


def _follows(program: Program, node: Node, reader: Node) -> bool:
    """Say whether one kernel may go on from a node to the one that reads its result."""
    if isinstance(node, Depthwise) and isinstance(reader, Convolution):
        return _is_separable(program, node, reader)
    if isinstance(node, Mean | Pooling) and isinstance(reader, Dense):
        return _is_global(program, node)
    if isinstance(node, Dense) and isinstance(reader, Softmax):
        return node.epilogue.addition is None
    return isinstance(node, Dense | Softmax) and isinstance(reader, Dequantize)


def _is_separable(program: Program, first: Depthwise, second: Convolution) -> bool:
    multiplies = first.weights.shape[-1] != program.values[first.x].shape[-1]
    return _is_pointwise(second) and not multiplies and first.epilogue.addition is None


def _is_pointwise(node: Convolution) -> bool:
    window = node.window
    return window.size == window.stride == (1, 1) and not any(window.before + window.after)


def _is_global(program: Program, node: Mean | Pooling) -> bool:
    """Say whether a node averages all pixels of an image, channel by channel."""
    shape = program.values[node.x].shape
    if len(shape) != 4:
        return False
    n, h, w, c = shape
    if isinstance(node, Mean):
        return (node.outer, node.count, node.inner) == (n, h * w, c)
    padding = node.window.before + node.window.after
    return node.kind == "average" and node.window.size == (h, w) and not any(padding)
