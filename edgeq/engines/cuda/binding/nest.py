"""Views of several values -> the loops that walk them together: sizes, and each one's strides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeq.engines.cuda.binding.packing import round_up
from edgeq.engines.cuda.launch import Constant, View
from edgeq.errors import EngineError

Extent = tuple[int, int]  # size, stride in elements
VECTOR_BYTES = 16  # the widest access of a thread
LARGEST_OFFSET = 2**31


@dataclass(frozen=True)
class Nest:
    """Loops, outermost first; `strides[operand][loop]` in elements, 0 where it is broadcast."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Return how often the innermost body runs."""
        return math.prod(self.sizes)

    def in_groups(self, width: int) -> Nest:
        """Return the nest whose body handles `width` neighbours of the innermost loop."""
        sizes = (*self.sizes[:-1], self.sizes[-1] // width)
        strides = tuple((*own[:-1], own[-1] * width) for own in self.strides)
        return Nest(sizes, strides)

    def constants(self, *names: str, sizes: str = "SIZES") -> dict[str, Constant]:
        """Return what a kernel's `eq_offset` needs: EQ_SIZES, and EQ_<name>_STRIDES of each.

        Raises:
            EngineError: an operand is too large for the kernels' 32-bit offsets.
        """
        for own in self.strides:
            spanned = sum((size - 1) * abs(s) for size, s in zip(self.sizes, own, strict=True))
            if spanned >= LARGEST_OFFSET:
                raise EngineError(f"a value spans {spanned} elements; kernels reach 2^31")
        lists = {f"{name}_STRIDES": own for name, own in zip(names, self.strides, strict=True)}
        return {name: braced(values) for name, values in ({sizes: self.sizes} | lists).items()}


def braced(values: Sequence[int]) -> str:
    """Return a C initializer."""
    return "{" + ", ".join(str(int(value)) for value in values) + "}"


def extents(view: View) -> tuple[Extent, ...]:
    """Return sizes and strides of a view, outermost first."""
    return tuple(zip(view.shape, view.strides, strict=True))


def broadcast(view: View, shape: Sequence[int]) -> tuple[Extent, ...]:
    """Return extents of `shape`: as numpy, stride 0 where the view has one element or no axis."""
    missing = len(shape) - len(view.shape)
    own = [(1, 0)] * missing + list(extents(view))
    return tuple(
        (size, stride if extent == size else 0)
        for size, (extent, stride) in zip(shape, own, strict=True)
    )


def together(*operands: Sequence[Extent]) -> Nest:
    """Return the fewest loops that walk all operands in the order of their elements.

    The operands may be cut into dimensions differently, if each has as many elements.

    Raises:
        EngineError: no loops with fixed strides walk them together.
    """
    stacks = [_collapsed(own) for own in operands]
    loops: list[tuple[int, tuple[int, ...]]] = []
    while any(stacks):
        size = math.gcd(*(stack[-1][0] if stack else 1 for stack in stacks))
        if size == 1:
            raise EngineError(f"no common loops walk {[list(own) for own in operands]}")
        loops.append((size, tuple(_take(stack, size) for stack in stacks)))
    return _merged(loops[::-1], len(operands))


def _collapsed(operand: Sequence[Extent]) -> list[Extent]:
    """Return the extents without size 1, neighbours merged where one stride walks both."""
    kept: list[Extent] = []
    for size, stride in operand:
        if size == 1:
            continue
        if kept and kept[-1][1] == size * stride:
            kept[-1] = (kept[-1][0] * size, stride)
        else:
            kept.append((size, stride))
    return kept


def _take(stack: list[Extent], size: int) -> int:
    """Take the innermost `size` of an operand's elements off; return their stride."""
    whole, stride = stack.pop()
    if whole > size:
        stack.append((whole // size, size * stride))
    return stride


def _merged(loops: Sequence[tuple[int, tuple[int, ...]]], operands: int) -> Nest:
    kept: list[tuple[int, tuple[int, ...]]] = []
    for size, strides in loops:
        if kept and all(o == size * i for o, i in zip(kept[-1][1], strides, strict=True)):
            kept[-1] = (kept[-1][0] * size, strides)
        else:
            kept.append((size, strides))
    kept = kept or [(1, (0,) * operands)]
    return Nest(tuple(size for size, _ in kept), tuple(zip(*(s for _, s in kept), strict=True)))


def is_aligned(nest: Nest, views: Sequence[View], width: int) -> bool:
    """Say whether each operand's `width` innermost neighbours are one aligned access.

    The views are the operands', in the nest's order; one with stride 0 is read once and spread.
    """
    if nest.sizes[-1] % width or any(own[-1] not in (0, 1) for own in nest.strides):
        return False
    return all(
        own[-1] == 0 or is_multiple(view, own[:-1], width)
        for view, own in zip(views, nest.strides, strict=True)
    )


def is_run(nest: Nest, views: Sequence[View], width: int) -> bool:
    """Say whether all operands are dense runs (or one value) from aligned places on.

    Then accesses of `width` reach all elements but the last few.
    """
    if len(nest.sizes) > 1 or nest.sizes[0] < width:
        return False
    steps = [(view, own[0]) for view, own in zip(views, nest.strides, strict=True)]
    return all(step == 0 or (step == 1 and is_multiple(view, (), width)) for view, step in steps)


def is_multiple(view: View, strides: Sequence[int], width: int) -> bool:
    """Say whether a view's start and steps of `strides` keep accesses of `width` aligned."""
    size = min(width * view.itemsize, VECTOR_BYTES)
    return all(place % size == 0 for place in _places(view, strides))


def _places(view: View, strides: Sequence[int]) -> Iterator[int]:
    yield view.pointer.offset
    yield from (stride * view.itemsize for stride in strides)


def padded_row(result: View, operands: Sequence[View], multiple: int) -> int:
    """Return a row's extent, rounded up where all rows have the room and the result owns its own.

    Operands with one element in a row need no room.
    """
    extent = _row(result)
    rounded = round_up(extent, multiple)
    rows = [result, *(view for view in operands if _row(view) > 1)]
    if extent == 1 or not result.owns_padding or any(_room(view) < rounded for view in rows):
        return extent
    return rounded


def _row(view: View) -> int:
    return view.shape[-1] if view.shape else 1


def _room(view: View) -> int:
    return view.strides[-2] if len(view.shape) > 1 else view.shape[-1]


def with_row(view: View, extent: int) -> View:
    """Return the view with longer rows; one element a row stays one."""
    if _row(view) == 1:
        return view
    return View(view.pointer, (*view.shape[:-1], extent), view.strides, view.itemsize)


def power_of_two(value: int) -> int:
    """Return the least power of two that is not less than the value."""
    return 1 << (value - 1).bit_length()
