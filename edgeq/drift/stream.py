"""What is watched: 256 codes of one tensor, scalar or class, one histogram for each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
StreamKind = Literal["input", "output", "activation", "scalar", "classes"]

# Stream name -> int32 [256] of one frame. A frame may lack streams: activations come more seldom.
FrameCounts = Mapping[str, Array]

CODES = 256


@dataclass(frozen=True)
class Stream:
    """One histogram that is kept for every frame.

    Inputs, outputs and activations are counted in the codes of their INT8 grid, so nothing is
    lost; what lies beyond the grid is counted at its rails. A scalar is one value for each frame;
    of classes it is the index modulo 256, and `lo` and `hi` are 0 and 255.
    """

    name: str  # the metric label `tensor`
    kind: StreamKind
    tensor: str  # the tensor it is taken from
    lo: float  # the value of code 0
    hi: float  # the value of code 255

    @property
    def values(self) -> Array:
        """The value of every code, float64 [256]."""
        return self.lo + np.arange(CODES) * ((self.hi - self.lo) / (CODES - 1))

    @property
    def is_categorical(self) -> bool:
        """True where the codes have no order."""
        return self.kind == "classes"

    @property
    def has_rails(self) -> bool:
        """True where codes 0 and 255 are what a tensor saturates at."""
        return self.kind in ("input", "output", "activation")

    def codes(self, values: Array) -> Array:
        """Return the nearest code of every value, int64; beyond the ends it is the end."""
        span = self.hi - self.lo
        if not span > 0:
            return np.where(values < self.lo, 0, np.where(values > self.hi, CODES - 1, CODES // 2))
        scaled = (np.asarray(values, np.float64) - self.lo) * ((CODES - 1) / span)
        return np.clip(np.rint(scaled), 0, CODES - 1).astype(np.int64)
