"""A Program -> the same, where slices that are concatenated side by side are the whole again.

YOLO's blocks split a value and concatenate both halves with what was computed of one: the value
can then lie in the concatenation, and neither half is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.engines.cuda.program.edges import copying, dense_strides, with_nodes, writers
from edgeq.engines.cuda.program.nodes import Move, Node, Program


@dataclass(frozen=True)
class _Part:
    """A Move of some channels of `whole` to `channel` of its y."""

    position: int
    whole: int
    start: int
    size: int
    channel: int


def join_parts(program: Program, position: int) -> Program | None:
    """Copy a value at once, where this Move and its like copy all of its channels in order."""
    node = program.nodes[position]
    first = _part(program, position)
    if not isinstance(node, Move) or first is None:
        return None
    found = (_part(program, other) for other in writers(program)[node.y])
    parts = sorted(
        (part for part in found if part is not None and part.whole == first.whole),
        key=lambda part: part.start,
    )
    if len(parts) < 2 or not _is_all(parts, program.values[first.whole].shape[-1]):
        return None
    joined = copying(program, first.whole, node.y)
    strides = dense_strides(program.values[node.y].shape)
    changed: dict[int, Node] = {
        min(part.position for part in parts): Move(
            joined.x, joined.y, joined.axes, strides, parts[0].channel
        )
    }
    gone = [part.position for part in parts if part.position not in changed]
    return with_nodes(program, changed, gone)


def _is_all(parts: list[_Part], channels: int) -> bool:
    """Say whether the parts follow each other from the first channel to the last, as in y."""
    ends = [part.start + part.size for part in parts]
    starts = [part.start for part in parts]
    shifts = {part.channel - part.start for part in parts}
    return starts == [0, *ends[:-1]] and ends[-1] == channels and len(shifts) == 1


def _part(program: Program, position: int) -> _Part | None:
    """Return what a Move copies, if that is all of a slice of channels, to some channels of y."""
    node = program.nodes[position]
    if not isinstance(node, Move):
        return None
    x, y = program.values[node.x].shape, program.values[node.y].shape
    if len(x) != len(y) or x[:-1] != y[:-1] or node.offset + x[-1] > y[-1]:
        return None
    whole = copying(program, node.x, node.y)
    if node.mirror or node.axes != whole.axes or node.y_strides != dense_strides(y):
        return None
    made = writers(program)[node.x]
    slice_ = program.nodes[made[0]] if len(made) == 1 else None
    if not isinstance(slice_, Move) or (start := _first_channel(program, slice_)) is None:
        return None
    return _Part(position, slice_.x, start, x[-1], node.offset)


def _first_channel(program: Program, node: Move) -> int | None:
    """Return where the channels begin that a Move takes of all of its x's rows."""
    x, y = program.values[node.x].shape, program.values[node.y].shape
    if len(x) != len(y) or x[:-1] != y[:-1] or node.mirror or node.offset:
        return None
    whole = copying(program, node.x, node.y)
    last = node.axes[-1]
    if node.axes[:-1] != whole.axes[:-1] or node.y_strides != dense_strides(y):
        return None
    fits = last.start >= 0 and last.start + last.size <= last.extent == x[-1]
    return last.start if fits and (last.step, last.stride, last.size) == (1, 1, y[-1]) else None
