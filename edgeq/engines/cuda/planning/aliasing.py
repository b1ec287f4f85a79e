"""A Program -> which values lie inside others, so that their copies need not be made.

A part of a channel concatenation is written where the whole lies; a slice is read where the whole
lies; a reshaped value is its source. Only channel slices, outermost slices and reshapes: those
keep every view uniform, one pitch between rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.engines.cuda.program.edges import dense_strides, writers
from edgeq.engines.cuda.program.nodes import Move, Program, Reshape


@dataclass(frozen=True)
class Alias:
    """A value inside another: `rows` innermost rows and `elements` of a row from its start."""

    whole: int
    rows: int = 0
    elements: int = 0
    reshaped: bool = False  # the whole under another shape: both must be dense


@dataclass(frozen=True)
class Aliases:
    """Who lies in whom, and the nodes that this leaves nothing to do for."""

    inside: Mapping[int, Alias]
    omitted: frozenset[int]  # positions of nodes
    dense: frozenset[int] = frozenset()  # values that are reshaped in place

    def root(self, value: int) -> int:
        """Return the value whose memory holds `value`."""
        while value in self.inside:
            value = self.inside[value].whole
        return value


def find_aliases(program: Program) -> Aliases:
    """Place each value that a Move or a Reshape only passes on inside the other."""
    finder = _Finder(program)
    for position, node in enumerate(program.nodes):
        if isinstance(node, Reshape):
            finder.reshape(position, node)
        elif isinstance(node, Move):
            finder.move(position, node)
    return Aliases(finder.inside, frozenset(finder.omitted), frozenset(finder.dense))


class _Finder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.fixed = {*program.inputs, *program.constants}  # lie where they lie
        self.produced = writers(program)
        self.inside: dict[int, Alias] = {}
        self.omitted: set[int] = set()
        self.dense: set[int] = set()  # values whose rows must follow each other without a gap

    def reshape(self, position: int, node: Reshape) -> None:
        """Let y be x; or x be y, where y is an output and has a buffer of its own."""
        if node.y not in self.program.outputs:
            self._put(position, node.y, Alias(node.x, reshaped=True))
        elif self._lead(node.x):
            self._put(position, node.x, Alias(node.y, reshaped=True))

    def move(self, position: int, node: Move) -> None:
        """Let x lie in y where it is a part of it, or y in x where it is a slice."""
        if (part := self._part(node)) is not None and self._lead(node.x):
            self._put(position, node.x, part)
        elif (slice_ := self._slice(node)) is not None and node.y not in self.program.outputs:
            self._put(position, node.y, slice_)

    def _lead(self, value: int) -> bool:
        """Turn a chain of reshapes round, so that `value` is what the others lie in."""
        chain = self._chain(value)
        movable = self._may_move(chain[-1])
        if not movable or not all(self.inside[v].reshaped for v in chain[:-1]):
            return False
        turned = {o: Alias(i, reshaped=True) for i, o in itertools.pairwise(chain)}
        self.inside.pop(value, None)
        self.inside.update(turned)
        return True

    def _may_move(self, value: int) -> bool:
        return (
            value not in self.fixed
            and value not in self.program.outputs
            and value not in self.inside
            and bool(self.produced[value])
        )

    def _put(self, position: int, value: int, alias: Alias) -> None:
        chain = self._chain(alias.whole)
        if value in chain:
            return
        inner, outer = (self.program.values[v].shape[-1:] for v in (value, alias.whole))
        if alias.reshaped and inner != outer:
            if any(self._leaves_gaps(v) for v in chain):
                return
            self.dense |= {value, alias.whole}
        elif inner != outer and any(value in self._chain(v) for v in self.dense):
            return
        self.inside[value] = alias
        self.omitted.add(position)

    def _chain(self, value: int) -> list[int]:
        """Return `value` and all that it lies in, up to the root."""
        chain = [value]
        while chain[-1] in self.inside:
            chain.append(self.inside[chain[-1]].whole)
        return chain

    def _leaves_gaps(self, value: int) -> bool:
        """Say whether `value` is some channels of another: a gap follows each of its rows."""
        alias = self.inside.get(value)
        if alias is None or alias.reshaped:
            return False
        shapes = self.program.values
        return shapes[value].shape[-1] != shapes[alias.whole].shape[-1]

    def _part(self, node: Move) -> Alias | None:
        """Return where all of x goes inside y, if that is a box of channels or of outer rows."""
        x, y = self.program.values[node.x].shape, self.program.values[node.y].shape
        if len(x) != len(y) or not x or node.mirror or not _is_whole(node, x):
            return None
        if node.y_strides != dense_strides(y):
            return None
        return _box(node.y, y, x, node.offset)

    def _slice(self, node: Move) -> Alias | None:
        """Return where y lies inside x, if y is a box of channels or of outer rows of it."""
        x, y = self.program.values[node.x].shape, self.program.values[node.y].shape
        if x == y or len(x) != len(y) or not x or node.mirror or node.offset:
            return None  # a copy of all of x is wanted for its padding
        strides = dense_strides(x)
        if tuple(a.size for a in node.axes) != y or node.y_strides != dense_strides(y):
            return None
        for dimension, axis in enumerate(node.axes):
            outside = axis.start < 0 or axis.start + axis.size > axis.extent
            if axis.step != 1 or outside or axis.stride != strides[dimension]:
                return None
            if axis.extent != x[dimension]:
                return None
        start = sum(axis.start * axis.stride for axis in node.axes)
        return _box(node.x, x, y, start)


def _is_whole(node: Move, x: tuple[int, ...]) -> bool:
    strides = dense_strides(x)
    return len(node.axes) == len(x) and all(
        (axis.size, axis.start, axis.step, axis.extent, axis.stride)
        == (x[d], 0, 1, x[d], strides[d])
        for d, axis in enumerate(node.axes)
    )


def _box(whole: int, outer: tuple[int, ...], inner: tuple[int, ...], offset: int) -> Alias | None:
    """Return the alias of a box of shape `inner` at dense `offset`, if it is a uniform one."""
    rows, elements = divmod(offset, outer[-1])
    if inner[:-1] == outer[:-1] and rows == 0 and elements + inner[-1] <= outer[-1]:
        return Alias(whole, 0, elements)
    if inner[-1] != outer[-1] or elements:
        return None
    differing = [d for d in range(len(outer) - 1) if inner[d] != outer[d]]
    if not differing:
        return Alias(whole)
    contiguous = all(size == 1 for size in outer[: differing[0]]) and len(differing) == 1
    return Alias(whole, rows) if contiguous else None
