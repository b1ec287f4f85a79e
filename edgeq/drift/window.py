"""Counts of live frames -> one histogram that forgets exponentially, and knows its sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass
class Window:
    """The last frames of one stream, the older the lighter.

    Frames of equal weight within `size` of each other tell as much as these: Kish's effective
    size, (sum w)^2 / sum w^2, tends to `size`.
    """

    size: int
    counts: Array  # float64 [256], each frame's counts by its weight
    weight: float = 0.0  # sum of the frames' weights
    squares: float = 0.0  # sum of their squares

    @classmethod
    def empty(cls, size: int) -> Window:
        """Return a window that has seen nothing."""
        return cls(size, np.zeros(256))

    @property
    def frames(self) -> float:
        """Effective number of frames."""
        return self.weight**2 / self.squares if self.squares else 0.0

    @property
    def decay(self) -> float:
        """What a frame's weight is multiplied with when the next one comes."""
        return (self.size - 1) / (self.size + 1)

    def add(self, counts: Array) -> None:
        """Take one frame in; counts [256]."""
        self.counts *= self.decay
        self.counts += counts
        self.weight = self.weight * self.decay + 1.0
        self.squares = self.squares * self.decay**2 + 1.0

    def scaled_counts(self) -> Array:
        """Counts as the effective number of frames would have."""
        return self.counts * (self.frames / self.weight) if self.weight else self.counts

    def is_empty(self) -> bool:
        """True where there is no value to compare."""
        return math.isclose(float(self.counts.sum()), 0.0)
