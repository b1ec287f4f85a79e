"""A View -> its pixels; arrays -> the padded forms that kernels read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.launch import Constant, Pointer, View
from edgeq.errors import EngineError

ALIGNMENT_BYTES = 16  # the widest access


@dataclass(frozen=True)
class Pixels:
    """A uniform view of int8 seen as [n, h, w, channels], pixels `pitch` bytes apart."""

    pointer: Pointer
    n: int
    h: int
    w: int
    channels: int
    pitch: int
    owns_padding: bool = False

    @classmethod
    def of(cls, view: View) -> Pixels:
        """See a view of rank 1 to 4, its last dimension the channels, as pixels.

        Raises:
            EngineError: of another rank, or too large for the kernels' 32-bit offsets.
        """
        if not 1 <= len(view.shape) <= 4:
            raise EngineError(f"a value has rank {len(view.shape)}; kernels take 1 to 4")
        n, h, w, channels = (1,) * (4 - len(view.shape)) + view.shape
        result = cls(view.pointer, n, h, w, channels, view.pitch, view.owns_padding)
        if result.count * view.pitch >= 2**31:
            spanned = result.count * view.pitch
            raise EngineError(f"a value spans {spanned} bytes; kernels reach 2147483647")
        return result

    @property
    def count(self) -> int:
        """Return the number of pixels."""
        return self.n * self.h * self.w

    @property
    def alignment(self) -> int:
        """Return the bytes, at most 16, at a multiple of which every pixel begins."""
        return math.gcd(ALIGNMENT_BYTES, self.pointer.offset, self.pitch if self.count > 1 else 0)

    def has_room(self, channels: int) -> bool:
        """Say whether so many channels of every pixel may be read without leaving the view."""
        return channels <= max(self.channels, self.pitch if self.owns_padding else 0)

    @property
    def bytes(self) -> int:
        """Return the bytes of the elements, without what lies between them."""
        return self.count * self.channels


def sorted_constants(constants: Mapping[str, Constant]) -> tuple[tuple[str, Constant], ...]:
    """Return the constants as a Kernel holds them."""
    return tuple(sorted(constants.items()))


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple that is not less than the value."""
    return -(-value // multiple) * multiple


def padded(array: npt.NDArray[Any], *shape: int) -> npt.NDArray[Any]:
    """Return the array in the corner of a larger one of zeros."""
    result = np.zeros(shape, array.dtype)
    result[tuple(slice(size) for size in array.shape)] = array
    return result
