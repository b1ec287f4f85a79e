"""Places in a dense value -> places in its view: what a stride, a count, an offset become there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.engines.cuda.binding.nest import Extent
from edgeq.engines.cuda.launch import Pointer, View
from edgeq.errors import EngineError


@dataclass(frozen=True)
class Digit:
    """A dimension of a view, or several that one stride walks."""

    size: int
    dense: int  # elements from one index to the next where the value is dense
    stride: int  # in the view


@dataclass(frozen=True)
class Places:
    """A view as the digits that a place in the dense value has, innermost first.

    Steps may be translated one by one only while none carries into the next digit: `check` says
    whether walks together stay below.
    """

    view: View
    digits: tuple[Digit, ...]

    @classmethod
    def of(cls, view: View) -> Places:
        """Merge what one stride walks."""
        digits: list[Digit] = []
        for size, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
            if size == 1:
                continue
            inner = digits[-1] if digits else None
            if inner is not None and stride == inner.size * inner.stride:
                digits[-1] = Digit(inner.size * size, inner.dense, inner.stride)
            else:
                dense = 1 if inner is None else inner.dense * inner.size
                digits.append(Digit(size, dense, stride))
        return cls(view, tuple(digits) or (Digit(1, 1, 1),))

    def walk(self, step: int, count: int) -> tuple[Extent, ...]:
        """Return `count` steps of the dense value as loops over the view, outermost first.

        Raises:
            EngineError: the steps cross from row to row at no fixed stride.
        """
        if count == 1 or step == 0:
            return ((count, 0),)
        digit = self._digit(abs(step))
        stride, rest = divmod(step * digit.stride, digit.dense)
        reach = digit.size * digit.dense
        if abs(step) * (count - 1) < reach and not rest:
            return ((count, stride),)
        inside, left = divmod(reach, abs(step))
        if rest or left or count % inside or digit is self.digits[-1]:
            raise EngineError(f"steps of {step}, {count} of them, do not fit {self.view}")
        return (*self.walk(step * inside, count // inside), (inside, stride))

    def offset(self, place: int) -> int:
        """Return where an element is, in elements from the view's start."""
        found = 0
        for digit in reversed(self.digits):
            index, place = divmod(place, digit.dense)
            found += index * digit.stride
        return found

    def pointer(self, place: int) -> Pointer:
        """Return the address of an element."""
        start = self.view.pointer
        offset = start.offset + self.offset(place) * self.view.itemsize
        return Pointer(start.space, offset, start.index)

    def check(self, start: int, walks: Sequence[tuple[int, int]]) -> None:
        """Make sure that steps of (stride, count) each, from `start` on, never carry.

        Raises:
            EngineError: translated one by one, they would lead elsewhere.
        """
        furthest = start + sum(step * (count - 1) for step, count in walks if step > 0)
        nearest = start + sum(step * (count - 1) for step, count in walks if step < 0)
        inside = nearest >= 0 and furthest < math.prod(self.view.shape)
        if not inside or self.offset(furthest) != self._strided(nearest, walks):
            raise EngineError(f"steps {list(walks)} from {start} do not fit {self.view}")

    def _strided(self, nearest: int, walks: Sequence[tuple[int, int]]) -> int:
        """Return the furthest place that translated steps lead to."""
        return self.offset(nearest) + sum(
            abs(stride) * (size - 1)
            for step, count in walks
            for size, stride in self.walk(abs(step), count)
        )

    def _digit(self, step: int) -> Digit:
        for digit in self.digits:
            if step < digit.dense * digit.size:
                return digit
        return self.digits[-1]
