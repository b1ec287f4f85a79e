"""What a plan is made of: kernels, where they read and write, how they are launched."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Space = Literal["arena", "constants", "scratch", "input", "output"]
Constant = int | float | str


@dataclass(frozen=True)
class Pointer:
    """An address: bytes from the start of a space.

    constants: one read-only blob. scratch: zeroed once when the plan is loaded, and left zeroed by
    every kernel that uses it. input, output: one buffer for each, by `index`.
    """

    space: Space
    offset: int = 0
    index: int = 0


@dataclass(frozen=True)
class View:
    """Where a value lies: `strides` in elements for each dimension of `shape`, the last one 1.

    A value's innermost rows may be padded, or lie in another value's (a part of a concatenation).
    What lies between them is anything. The planner's views are uniform: one `pitch` from each
    innermost row to the next, through all outer dimensions, so that [N, H, W, C] may be seen as
    [N * H * W, C]. Where the view owns its padding, nothing else lies between its rows, and a
    kernel may write there what it likes.
    """

    pointer: Pointer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int = 1
    owns_padding: bool = False

    @property
    def pitch(self) -> int:
        """Return the elements from one innermost row to the next."""
        return self.strides[-2] if len(self.shape) > 1 else math.prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """Say whether nothing lies between the elements."""
        rows = math.prod(self.shape[:-1])
        return rows == 1 or self.pitch == self.shape[-1]

    @classmethod
    def of(
        cls, pointer: Pointer, shape: tuple[int, ...], pitch: int | None = None, itemsize: int = 1
    ) -> View:
        """Return the uniform view with rows `pitch` elements apart; dense by default."""
        strides = [1] * len(shape)
        for dimension in range(len(shape) - 2, -1, -1):
            inner = shape[dimension + 1] if dimension < len(shape) - 2 else 0
            strides[dimension] = strides[dimension + 1] * inner if inner else pitch or shape[-1]
        return cls(pointer, shape, tuple(strides), itemsize)


@dataclass(frozen=True)
class Kernel:
    """One kernel to compile: a template of `kernels/`, and the constants that specialize it.

    Every constant is a macro EQ_<NAME>; a float is written so that it reads back bit for bit.
    """

    template: str  # the file's stem, and the entry point's name
    constants: tuple[tuple[str, Constant], ...]  # sorted by name
    threads: int  # of a block
    dynamic_shared_bytes: int = 0


@dataclass(frozen=True)
class Work:
    """What a launch has to do at least, for the roofline."""

    multiply_accumulates: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Launch:
    """One kernel on a grid; its parameters are 64-bit pointers, all of them in `pointers`."""

    kernel: Kernel
    grid: tuple[int, int, int]
    pointers: tuple[Pointer, ...]
    label: str
    work: Work = field(default_factory=lambda: Work(0, 0, 0))
