"""A run of frames -> the windows that they leave, without adding them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.window import Window, place_of
from tools.drift_bench.cases import Counts

Array = npt.NDArray[Any]

RUN = 4  # a window is filled by so many times its size: e^-8 of the weight is missing


@dataclass(frozen=True)
class Frames:
    """Counted frames to draw from."""

    counts: Mapping[str, Array]  # float64 [frames, 256]
    places: Mapping[str, Array]  # float64 [frames], as windows know them

    @classmethod
    def of(cls, counts: Counts) -> Frames:
        """Prepare them."""
        wide = {name: rows.astype(np.float64) for name, rows in counts.items()}
        return cls(wide, {name: place_of(rows) for name, rows in wide.items()})

    @property
    def size(self) -> int:
        """How many there are."""
        return len(next(iter(self.places.values())))

    def at(self, place: int) -> dict[str, Array]:
        """Return one frame's counts."""
        return {name: rows[place] for name, rows in self.counts.items()}

    def windows(self, places: Array, size: int) -> dict[str, Window]:
        """Return what windows of a size hold after the frames at these places, in this order."""
        decay = (size - 1) / (size + 1)
        weights = decay ** np.arange(len(places) - 1, -1, -1, dtype=np.float64)
        by_frame = np.bincount(places, weights, self.size)
        squares = float(np.square(weights).sum())
        return {
            name: _window(size, by_frame @ rows, self.places[name][places], weights, squares)
            for name, rows in self.counts.items()
        }


def _window(size: int, counts: Array, places: Array, weights: Array, squares: float) -> Window:
    """Leave the same sums as `Window.add`, as long as no correlation is found."""
    steps = np.concatenate([[0.0], np.diff(places)])
    return Window(
        size,
        counts=counts,
        weight=float(weights.sum()),
        squares=squares,
        places=float(weights @ places),
        place_squares=float(weights @ np.square(places)),
        steps=float(weights @ np.square(steps)),
        last=float(places[-1]),
    )
