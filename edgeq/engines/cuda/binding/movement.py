"""A Move -> the kernel that copies it, as wide as both sides allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.nest import VECTOR_BYTES, Nest, braced, together
from edgeq.engines.cuda.binding.packing import round_up, sorted_constants
from edgeq.engines.cuda.binding.places import Places
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, View, Work
from edgeq.engines.cuda.program.nodes import Axis, Move
from edgeq.errors import EngineError

THREADS = 128
WORD_BYTES = 4
INSTRUCTIONS = 12  # of a thread, for places; and for each access
BEST = 2


@dataclass(frozen=True)
class Loop:
    """One loop over y; where `extent` is not 0, x may end within it."""

    size: int
    x_stride: int
    y_stride: int
    start: int = 0
    step: int = 1
    extent: int = 0


@dataclass(frozen=True)
class Copy:
    """A Move between views: loops in the order of y's memory, outermost first."""

    loops: tuple[Loop, ...]
    x: Pointer
    y: Pointer
    itemsize: int

    @property
    def count(self) -> int:
        """Return the elements that are written."""
        return math.prod(loop.size for loop in self.loops)

    @property
    def is_run(self) -> bool:
        """Say whether the innermost loop reads one element after the other."""
        return self.loops[-1].x_stride == 1 and not self.loops[-1].extent

    def allows(self, width: int, *, loads: bool) -> bool:
        """Say whether `width` elements are one access of y, and of x if it is loaded so."""
        *outer, last = self.loops
        size = width * self.itemsize
        places = [self.y.offset, *(loop.y_stride * self.itemsize for loop in outer)]
        if loads:
            places += [self.x.offset, *(loop.x_stride * self.itemsize for loop in outer)]
        fits = WORD_BYTES <= size <= VECTOR_BYTES and last.size % width == 0 and last.y_stride == 1
        return fits and all(place % size == 0 for place in places)


def choices(node: Move, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Move, best first.

    Raises:
        EngineError: a view is padded where the node walks across its rows.
    """
    copy = _copy(node, site.view(node.x), site.view(node.y))
    fill = np.asarray(node.fill, site.value(node.y).datatype)
    found = sorted(
        (_choice(node, site, copy, fill, width, whole) for width, whole in _widths(copy)),
        key=lambda choice: choice.microseconds,
    )
    return tuple(found[:BEST])


def _widths(copy: Copy) -> Iterator[tuple[int, bool]]:
    """Yield elements of a thread, and whether it loads them at once."""
    candidates = [size // copy.itemsize for size in (16, 8, 4)]
    whole = [w for w in candidates if copy.is_run and copy.allows(w, loads=True)]
    if whole:
        yield from ((width, True) for width in whole)
    elif copy.allows(WORD_BYTES // copy.itemsize, loads=False):
        yield WORD_BYTES // copy.itemsize, False
    else:
        yield 1, False


def _choice(
    node: Move, site: Site, copy: Copy, fill: npt.NDArray[Any], width: int, whole: bool
) -> Choice:
    moved = copy.count * copy.itemsize
    threads = copy.count // width
    instructions = INSTRUCTIONS * (2 if whole else 1 + width)
    estimated = microseconds(site.target, threads, instructions, 2 * moved)
    constants = _constants(node, copy, fill, width, whole)
    kernel = Kernel("move", sorted_constants(constants), THREADS)
    grid = (-(-threads // THREADS), 1, 1)
    launch = Launch(kernel, grid, (copy.x, copy.y), "move", Work(0, moved, moved))
    name = f"move x{width}{'' if whole or width == 1 else ' gathered'}"
    return Choice(name, estimated, lambda: (launch,))


def _constants(
    node: Move, copy: Copy, fill: npt.NDArray[Any], width: int, whole: bool
) -> dict[str, Constant]:
    pattern = int.from_bytes((fill.tobytes() * WORD_BYTES)[:WORD_BYTES], "little")
    item = int.from_bytes(fill.tobytes(), "little")
    loops = copy.loops
    return {
        "WIDTH": width,
        "ITEM": copy.itemsize,
        "COUNT": copy.count // width,
        "RANK": len(loops),
        "SIZES": braced([loop.size for loop in loops]),
        "X_STRIDES": braced([loop.x_stride for loop in loops]),
        "Y_STRIDES": braced([loop.y_stride for loop in loops]),
        "STARTS": braced([loop.start for loop in loops]),
        "STEPS": braced([loop.step for loop in loops]),
        "EXTENTS": braced([loop.extent for loop in loops]),
        "MIRROR": int(bool(node.mirror)),
        "MIRROR_EDGE": int(node.mirror == "symmetric"),
        "FILL": f"{item}u",
        "FILL_WORD": f"{pattern}u",
        "WHOLE_LOADS": int(whole),
    }


def _copy(node: Move, x_view: View, y_view: View) -> Copy:
    x, y = Places.of(x_view), Places.of(y_view)
    y.check(node.offset, [(s, a.size) for a, s in zip(node.axes, node.y_strides, strict=True)])
    inside = [axis for axis in node.axes if not _leaves(axis)]
    start = sum(axis.start * axis.stride for axis in inside)
    x.check(start, [
        *((axis.stride * axis.step, axis.size) for axis in inside),
        *((axis.stride, axis.extent) for axis in node.axes if _leaves(axis)),
    ])  # fmt: skip
    loops: list[Loop] = []
    for axis, y_step in zip(node.axes, node.y_strides, strict=True):
        loops += _loops(axis, y_step, x, y)
    loops = [loop for loop in loops if loop.size > 1 or loop.extent]
    loops.sort(key=lambda loop: (loop.size > 1, -loop.y_stride))
    merged = _with_padding(_merged(loops), y_view)
    return Copy(merged, x.pointer(start), y.pointer(node.offset), x_view.itemsize)


def _with_padding(loops: tuple[Loop, ...], y: View) -> tuple[Loop, ...]:
    """Let whole words reach beyond the end of rows, where y owns what lies there."""
    *outer, last = loops
    whole = round_up(last.size, WORD_BYTES // y.itemsize)
    is_row = y.owns_padding and len(y.shape) > 1 and last.size == y.shape[-1] > 1
    if last.extent or not is_row or last.y_stride != 1 or not last.size < whole <= y.pitch:
        return loops
    return (*outer, replace(last, size=whole, extent=last.size))


def _leaves(axis: Axis) -> bool:
    """Say whether some index lies outside x."""
    ends = axis.start, axis.start + (axis.size - 1) * axis.step
    return min(ends) < 0 or max(ends) >= axis.extent


def _loops(axis: Axis, y_step: int, x: Places, y: Places) -> list[Loop]:
    """Return an axis as loops over the views, outermost first."""
    written = y.walk(y_step, axis.size)
    if not _leaves(axis):
        nest: Nest = together(x.walk(axis.stride * axis.step, axis.size), written)
        return [
            Loop(size, read, write) for size, read, write in zip(nest.sizes, *nest.strides,
                                                                 strict=True)
        ]  # fmt: skip
    read = x.walk(axis.stride, axis.extent)
    if len(read) > 1 or len(written) > 1:
        raise EngineError(f"{axis} is padded across the rows of a padded view")
    return [
        Loop(axis.size, read[0][1], written[0][1], axis.start, axis.step, axis.extent)
    ]  # fmt: skip


def _merged(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """Join neighbours that one stride walks on both sides."""
    kept: list[Loop] = []
    for loop in loops:
        outer = kept[-1] if kept else None
        if (
            outer is not None
            and not outer.extent
            and not loop.extent
            and outer.x_stride == loop.size * loop.x_stride
            and outer.y_stride == loop.size * loop.y_stride
        ):
            kept[-1] = replace(loop, size=outer.size * loop.size)
        else:
            kept.append(loop)
    return tuple(kept) or (Loop(1, 0, 1),)
