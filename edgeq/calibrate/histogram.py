"""Float values -> counts in 2*2048 signed bins: one pass, constant memory, exact merging.

The range [-R, R) is a power of two and grows by adding neighbouring bins, so the counts are the
same, bit for bit, for every order, batching and split of the same values. Measured for 1M float32
values: 1.6 ms signed, 2.1 ms after ReLU (bincount waits on the one bin of the zeros).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

BINS = 2048  # per sign
BIN_BITS = 11
LOWEST_EXPONENT = (
    -100
)  # R never below this, so that 2048 / R is a float32; smaller values count as 0
CHUNK = 1 << 16  # values binned at once: their temporaries stay in the second-level cache


class Histogram:
    """Counts of one tensor's finite values, with their exact extrema.

    `bins[2048 + k]` counts the values in [k, k+1) * R / 2048, R = 2**exponent. An empty histogram
    has min = inf and max = -inf. `nonfinite` counts NaN and infinities, which are in no bin.
    """

    __slots__ = ("bins", "exponent", "max", "min", "nonfinite")

    def __init__(self) -> None:
        self.bins: Counts = np.zeros(2 * BINS, np.int64)
        self.exponent = LOWEST_EXPONENT
        self.min = math.inf
        self.max = -math.inf
        self.nonfinite = 0

    @property
    def count(self) -> int:
        """How many finite values are in the bins."""
        return int(self.bins.sum())

    @property
    def width(self) -> float:
        """The width of a bin: a power of two."""
        return math.ldexp(1.0, self.exponent - BIN_BITS)

    def add(self, values: Array) -> None:
        """Count every value of a float32 array of any shape."""
        flat = np.asarray(values, np.float32).reshape(-1)
        with np.errstate(invalid="ignore"):
            low, high = extrema(flat)
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = flat[np.isfinite(flat)]
            self.nonfinite += flat.size - finite.size
            flat, (low, high) = finite, extrema(finite)
        self.add_finite(flat, low, high)

    def add_finite(self, flat: Array, low: float, high: float) -> None:
        """Count finite float32 values of a flat array whose extrema are known.

        `low` and `high` may be the extrema of more values than are counted here.
        """
        if flat.size == 0:
            return
        self.cover(low, high)
        for start in range(0, flat.size, CHUNK):
            self._count(flat[start : start + CHUNK], is_signed=low < 0)

    def add_zeros(self, count: int) -> None:
        """Count zeros, as `add` would."""
        if count > 0:
            self.cover(0.0, 0.0)
            self.bins[BINS] += count

    def cover(self, low: float, high: float) -> None:
        """Widen the extrema, and the range to hold them."""
        exponent = _exponent_of(max(-low, high))
        if self.min > self.max:  # empty: there is nothing to add up
            self.exponent = max(self.exponent, exponent)
        self.min, self.max = min(self.min, low), max(self.max, high)
        self._grow(exponent)

    def _count(self, chunk: Array, *, is_signed: bool) -> None:
        scaled = chunk * np.float32(math.ldexp(1.0, BIN_BITS - self.exponent))  # exact: 2**n
        if not is_signed:
            self.bins[BINS:] += np.bincount(scaled.astype(np.int32), minlength=BINS)
            return
        np.floor(scaled, out=scaled)
        scaled += BINS
        counts = np.bincount(scaled.astype(np.int32), minlength=2 * BINS)
        if self.exponent > BIN_BITS:
            _restore_underflow(counts, chunk)
        self.bins += counts

    def _grow(self, exponent: int) -> None:
        if exponent > self.exponent:
            bins = np.zeros(2 * BINS, np.int64)
            self._add_to(bins, exponent)
            self.bins, self.exponent = bins, exponent

    def _add_to(self, bins: Counts, exponent: int) -> None:
        """Add the counts to those of a range that is as wide, or wider."""
        sums = self.bins
        for _ in range(min(exponent - self.exponent, BIN_BITS)):  # down to one bin a sign
            sums = sums[::2] + sums[1::2]  # 10 x faster than .reshape(-1, 2).sum(axis=1)
        bins[BINS - sums.size // 2 : BINS + sums.size // 2] += sums

    def merge(self, other: Histogram) -> None:
        """Add the counts of `other`, exactly as if its values had been added here."""
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self.nonfinite += other.nonfinite
        self._grow(other.exponent)
        other._add_to(self.bins, self.exponent)

    @classmethod
    def sum_of(cls, parts: Sequence[Histogram]) -> Histogram:
        """Return the histogram of all parts' values."""
        total = cls()
        total.exponent = max((part.exponent for part in parts), default=LOWEST_EXPONENT)
        for part in parts:
            total.merge(part)
        return total

    def copy(self) -> Histogram:
        """Return an independent copy."""
        twin = Histogram()
        twin.bins, twin.exponent = self.bins.copy(), self.exponent
        twin.min, twin.max, twin.nonfinite = self.min, self.max, self.nonfinite
        return twin

    def magnitudes(self) -> tuple[Counts, float]:
        """Return the counts of |x| up to the bin that holds the absolute maximum, and bin width."""
        folded: Counts = self.bins[BINS:] + self.bins[BINS - 1 :: -1]
        return folded[: self._used_bins()], self.width

    def _used_bins(self) -> int:
        if not math.isfinite(self.min):
            return 1
        up = math.floor(self.max / self.width) + 1
        down = math.ceil(-self.min / self.width)  # bin -k reaches down to -k, inclusive
        return max(1, up, down)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._state() == other._state() and bool(np.array_equal(self.bins, other.bins))

    __hash__ = None  # type: ignore[assignment] # it changes

    def _state(self) -> tuple[int, float, float, int]:
        return self.exponent, self.min, self.max, self.nonfinite

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, min={self.min}, max={self.max})"


def extrema(flat: Array) -> tuple[float, float]:
    """Return minimum and maximum; NaN where there is one, (inf, -inf) for an empty array.

    NaN may warn; callers that expect it wrap the call in np.errstate, once for many.
    """
    if flat.size == 0:
        return math.inf, -math.inf
    low, high = float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))
    return low + 0.0, high + 0.0  # + 0.0: never -0.0, whose place depends on order


def _exponent_of(magnitude: float) -> int:
    """The smallest n with magnitude < 2**n."""
    return max(LOWEST_EXPONENT, math.frexp(magnitude)[1]) if magnitude > 0 else LOWEST_EXPONENT


def _restore_underflow(counts: Counts, chunk: Array) -> None:
    """Put negative values that the scaling rounded to -0.0 back into bin -1.

    They belong there when R is small; without this the counts would depend on when R grew.
    """
    lost = int(np.count_nonzero(chunk < 0)) - int(counts[:BINS].sum())
    counts[BINS] -= lost
    counts[BINS - 1] += lost
