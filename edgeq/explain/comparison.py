"""An activation in float and in INT8, input by input -> how far they are apart, and in what way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Range = tuple[float, float]

COPIES = frozenset({"QUANTIZE", "DEQUANTIZE"})  # in float they change nothing
MAX_VALUES = 1 << 14  # of an activation, for each input


@dataclass(frozen=True)
class Scale:
    """The int8 parameters of a tensor, and what its readers tell apart."""

    step: float
    holds: Range
    read: Range  # beyond, all values are one to whatever reads them


class Comparison:
    """Sums over the inputs; the last axis is the channels."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self.signal = self.noise = self.passed = self.saturated_noise = 0.0
        self._count = self._low = self._high = self._rows = 0
        self._sums: Array = np.zeros(1)  # of the error, by channel
        self._squares: Array = np.zeros(1)
        self._peaks: Array = np.zeros(1)

    def add(self, expected: Array, actual: Array, forced: Array) -> None:
        """Take in one input's values: in float, in INT8, and in float from the INT8 inputs.

        One that is not finite somewhere says nothing.
        """
        expected, actual, forced = (self._as_read(each) for each in (expected, actual, forced))
        error = actual - expected
        energies = energy(expected), energy(error), energy(forced - expected)
        if not error.size or not all(map(math.isfinite, energies)):
            return
        self.signal += energies[0]
        self.noise += energies[1]
        self.passed += energies[2]
        self._count_saturated(expected)
        self._count += error.size
        self._rows += len(error)
        self._sums = self._sums + error.sum(axis=0)
        self._squares = self._squares + np.square(error).sum(axis=0)
        self._peaks = np.maximum(self._peaks, np.abs(expected).max(axis=0, initial=0.0))

    def _as_read(self, values: Array) -> Array:
        """Return some of the values, as the tensor's readers see them  # [n, C]."""
        seen: Array = np.clip(_thinned(values), *self._scale.read)
        return seen

    def _count_saturated(self, expected: Array) -> None:
        """What lies beyond int8's ends by no more than rounding moves it is not saturated."""
        (low, high), half = self._scale.holds, self._scale.step / 2
        below, above = expected < low - half, expected > high + half
        self._low += int(np.count_nonzero(below))
        self._high += int(np.count_nonzero(above))
        self.saturated_noise += energy(expected[below] - low) + energy(expected[above] - high)

    @property
    def saturated_ratios(self) -> Range:
        """Shares of the values that int8 cannot hold, below and above."""
        return self._low / max(self._count, 1), self._high / max(self._count, 1)

    @property
    def saturated(self) -> float:
        """Share of the noise that is these values' error."""
        return min(1.0, self.saturated_noise / self.noise) if self.noise else 0.0

    @property
    def noise_ratio(self) -> float:
        """Noise as a share of the signal."""
        return self.noise / self.signal if self.signal else 0.0

    @property
    def passed_ratio(self) -> float:
        """The noise that float would have made of the INT8 inputs, as a share of the signal."""
        return self.passed / self.signal if self.signal else 0.0

    @property
    def shift(self) -> float:
        """Share of the noise that is a shift of the channels' means, freed of chance.

        The square of a mean over n values holds a share 1/n of their variance by chance alone.
        """
        if self._rows < 2 or self.noise == 0.0:
            return 0.0
        means = np.square(self._sums) / self._rows
        chance = (self._squares - means) / (self._rows - 1)
        return min(max(0.0, float((means - chance).sum()) / self.noise), 1.0)

    @property
    def rounding(self) -> float:
        """Share of the noise that rounding to the nearest level explains."""
        if self.noise == 0.0:
            return 0.0
        return min(1.0, self._scale.step**2 / 12 * self._count / self.noise)

    @property
    def channel_spread(self) -> float:
        """The widest channel's largest magnitude as a multiple of the median one's."""
        alive = self._peaks[self._peaks > 0.0]
        return float(alive.max() / np.median(alive)) if alive.size else 1.0


def _thinned(values: Array) -> Array:
    """Return an activation's values by channel, every n-th position of a large one  # [n, C]."""
    channels = values.shape[-1] if values.ndim else 1
    rows = values.reshape(-1, max(channels, 1))
    stride = max(1, -(-values.size // MAX_VALUES))
    while stride > 1 and math.gcd(stride, len(rows)) > 1:
        stride += 1
    thinned: Array = rows[::stride].astype(np.float64)
    return thinned


def energy(values: Array) -> float:
    """Sum of squares, without BLAS: its threads wait for one another on a busy box, 5 ms a time."""
    flat = values.reshape(-1)
    return float(np.einsum("i,i->", flat, flat))
