"""Counts of live frames -> one histogram that forgets exponentially, and knows its sample size.

Consecutive frames of a camera hang together, and many alike tell little more than one of them. How
alike they are is read from one figure of successive frames, their place; the window then reaches
back further, so that it still holds as much as so many independent frames would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.stream import CODES

Array = npt.NDArray[Any]

MOST_STRETCH = 50.0  # a camera that shows one picture for good must still be told from a scene
NOTABLE = 2.0  # standard errors; a correlation within them is taken for none
LEAST_VARIANCE = 1e-9
CODE = np.arange(CODES, dtype=np.float64)
# The mean code alone is the same for all shares that add up to 1; its square is not.
PLACE = CODE + np.square(CODE - (CODES - 1) / 2) / (CODES / 4)


def place_of(counts: Array) -> Array:
    """Return where frames lie, one figure for each; counts [..., 256], none all zero."""
    place: Array = (counts @ PLACE) / counts.sum(axis=-1)
    return place


@dataclass
class Window:
    """The last frames of one stream, the older the lighter.

    Kish's effective size, (sum w)^2 / sum w^2, tends to `size`; where frames hang together, it
    tends to `size` times `stretch`, which makes as many independent ones.
    """

    size: int
    variance: float = 0.0  # of the reference frames' places; 0: correlation is not looked at
    counts: Array = field(default_factory=lambda: np.zeros(CODES))  # of each frame by its weight
    weight: float = 0.0  # sum of the frames' weights
    squares: float = 0.0  # sum of their squares
    places: float = 0.0  # sum of the frames' places by their weight
    place_squares: float = 0.0
    steps: float = 0.0  # squared differences of successive places by their weight
    last: float = math.nan  # place of the last frame

    @property
    def kish(self) -> float:
        """Effective number of frames, were they independent."""
        return self.weight**2 / self.squares if self.squares else 0.0

    @property
    def frames(self) -> float:
        """Effective number of independent frames."""
        return self.kish / self.stretch

    @property
    def correlation(self) -> float:
        """Of successive frames' places (von Neumann's ratio), 0 where it may be chance.

        Measured against the lesser of the live and the reference's variance: a jump in the window
        makes the live one large, and darkness makes it small.
        """
        if self.variance < LEAST_VARIANCE or self.kish < 2.0:
            return 0.0
        mean = self.places / self.weight
        live = self.place_squares / self.weight - mean**2
        least = max(min(live, self.variance), LEAST_VARIANCE)
        correlation = 1.0 - self.steps / self.weight / (2.0 * least)
        return correlation if correlation > NOTABLE / math.sqrt(self.kish) else 0.0

    @property
    def stretch(self) -> float:
        """How many frames tell as much as one independent one (of a first-order process)."""
        correlation = self.correlation
        if correlation >= 1.0:
            return MOST_STRETCH
        return min(MOST_STRETCH, (1.0 + correlation) / (1.0 - correlation))

    def add(self, counts: Array) -> None:
        """Take one frame in; counts [256], not all zero."""
        reach = self.size * self.stretch
        decay = (reach - 1.0) / (reach + 1.0)
        place = float(place_of(counts))
        step = 0.0 if math.isnan(self.last) else place - self.last
        self.counts *= decay
        self.counts += counts
        self.weight = self.weight * decay + 1.0
        self.squares = self.squares * decay**2 + 1.0
        self.places = self.places * decay + place
        self.place_squares = self.place_squares * decay + place**2
        self.steps = self.steps * decay + step**2
        self.last = place

    def merge(self, other: Window) -> None:
        """Take in what another window saw of the same time."""
        self.counts += other.counts
        self.weight += other.weight
        self.squares += other.squares
        self.places += other.places
        self.place_squares += other.place_squares
        self.steps += other.steps

    def scaled_counts(self) -> Array:
        """Return counts as the effective number of frames has, float64 [256]."""
        return self.counts * (self.frames / self.weight) if self.weight else self.counts.copy()

    def to_array(self) -> Array:
        """Return all that `from_array` needs, float64 [262]."""
        rest = [self.weight, self.squares, self.places, self.place_squares, self.steps, self.last]
        return np.concatenate([self.counts, rest])

    @classmethod
    def from_array(cls, size: int, variance: float, array: Array) -> Window:
        """Read what `to_array` wrote."""
        rest = (float(value) for value in array[CODES:])
        return cls(size, variance, array[:CODES].copy(), *rest)
