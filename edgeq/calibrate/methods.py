"""Histogram -> the clipping range of one activation, by the method that METHODS names.

Every method picks a threshold T on |x|; the range is [max(min, -T), min(max, T)], quantized over
its whole width, so that one-sided and lopsided tensors waste nothing on values that never occur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.entropy import (
    ONE_SIDED_LEVELS,
    TWO_SIDED_LEVELS,
    divergence,
    entropy_threshold,
)
from edgeq.calibrate.histogram import Histogram

Array = npt.NDArray[Any]

PERCENT_MYRIAD = 9999  # of 10,000 values of |x|, how many the percentile method keeps
ROUNDING = 1e-9  # relative; errors this close are equal
STEPS = 255  # between the ends of an INT8 range


@dataclass(frozen=True)
class Range:
    """What one method chose for one tensor."""

    lo: float
    hi: float
    method: str  # 'mse' where the entropy method fell back to it
    divergence: float  # nats, KL(P || Q) of the entropy rule at this threshold; may be infinite
    clipped_ratio: float  # share of the values outside [lo, hi]


@dataclass(frozen=True)
class Magnitudes:
    """|x| of a histogram, read once for all steps of a method."""

    counts: Array  # int64, up to the bin of the absolute maximum
    width: float
    low: float
    high: float

    @classmethod
    def of(cls, histogram: Histogram) -> Magnitudes:
        """Read a histogram; an empty one is a single zero bin."""
        counts, width = histogram.magnitudes()
        low, high = (histogram.min, histogram.max) if histogram.count else (0.0, 0.0)
        return cls(counts, width, low, high)

    @property
    def levels(self) -> int:
        """How many levels of |x| the entropy rule has."""
        is_one_sided = self.low >= 0 or self.high <= 0
        return ONE_SIDED_LEVELS if is_one_sided else TWO_SIDED_LEVELS

    def range(self, bins: int, method: str) -> Range:
        """Return the range that keeps `bins` bins of |x|."""
        total = int(self.counts.sum())
        clipped = int(self.counts[bins:].sum())
        threshold = bins * self.width
        return Range(
            lo=max(self.low, -threshold),
            hi=min(self.high, threshold),
            method=method,
            divergence=divergence(self.counts, bins, self.levels),
            clipped_ratio=clipped / total if total else 0.0,
        )


def squared_errors(magnitudes: Magnitudes) -> Array:
    """Return the squared error of quantizing all values, for T = 1, 2, .. all bins.

    In units of the bin width squared, values uniform within their bin. Inside, the error is
    uniform over a step (step**2 / 12 a value), but for the bins at both ends: 0 and T are levels,
    so the error is at most the distance to them, and a ReLU's exact zeros have none. Outside, it
    is the distance to T.
    """
    counts = magnitudes.counts.astype(np.float64)
    edges = np.arange(1, counts.size + 1, dtype=np.float64)
    high = np.clip(magnitudes.high / magnitudes.width, 0, edges)
    low = np.clip(magnitudes.low / magnitudes.width, -edges, 0)
    noise = ((high - low) / STEPS) ** 2 / 12
    reach = np.maximum(high, -low) - (edges - 1)  # of the last bin: all, but for the maximum's
    near_zero = min(counts[0], counts[1]) if counts.size > 1 else 0.0
    between = np.maximum(np.cumsum(counts) - counts[0] - counts, 0.0)
    at_end = np.where(edges > 1, counts, near_zero)
    errors: Array = noise * between + np.minimum(noise, reach**2 / 3) * at_end
    errors += np.where(edges > 1, np.minimum(noise, 1 / 3) * near_zero, 0.0)
    errors += _clipping(counts, edges)
    return errors


def _clipping(counts: Array, edges: Array) -> Array:
    """Sum of (|x| - T)**2 over the bins from T on, |x| uniform within its bin."""
    centres = np.arange(counts.size) + 0.5
    mass, moment, square = (_outside(counts * centres**power) for power in (0, 1, 2))
    clipping: Array = square - 2 * edges * moment + (edges**2 + 1 / 12) * mass
    return clipping


def _outside(values: Array) -> Array:
    """Sum of the bins after each: index i holds values[i+1:].sum()."""
    sums: Array = np.append(np.cumsum(values[::-1])[::-1][1:], 0.0)
    return sums


def _entropy_bins(magnitudes: Magnitudes) -> int:
    return entropy_threshold(magnitudes.counts, magnitudes.levels)


def _least_error_bins(errors: Array) -> int:
    least = errors.min() * (1 + ROUNDING)
    return int(np.flatnonzero(errors <= least)[-1]) + 1  # of equal ones the last: it clips least


def entropy_unguarded(histogram: Histogram) -> Range:
    """Least KL divergence: TensorRT's rule as published."""
    magnitudes = Magnitudes.of(histogram)
    return magnitudes.range(_entropy_bins(magnitudes), "entropy-unguarded")


def entropy(histogram: Histogram) -> Range:
    """Least KL divergence, or least squared error where KL's is above that of no clipping.

    The guard is for late, sparse, heavy-tailed tensors, where KL alone clips what matters:
    measured on VWW 9.6 dB of output SQNR against 21.0 for the maximum, 27.2 with the guard.
    """
    magnitudes = Magnitudes.of(histogram)
    bins, errors = _entropy_bins(magnitudes), squared_errors(magnitudes)
    if errors[bins - 1] > errors[-1]:
        return magnitudes.range(_least_error_bins(errors), "mse")
    return magnitudes.range(bins, "entropy")


def percentile(histogram: Histogram) -> Range:
    """The first bin edge that holds 99.99 % of |x|."""
    magnitudes = Magnitudes.of(histogram)
    inside = np.cumsum(magnitudes.counts)
    wanted = -(-int(inside[-1]) * PERCENT_MYRIAD // 10_000)  # integers: no rounding at the edge
    return magnitudes.range(int(np.searchsorted(inside, wanted)) + 1, "percentile")


def mse(histogram: Histogram) -> Range:
    """Least squared error of the values."""
    magnitudes = Magnitudes.of(histogram)
    return magnitudes.range(_least_error_bins(squared_errors(magnitudes)), "mse")


def maximum(histogram: Histogram) -> Range:
    """The extrema: nothing is clipped."""
    magnitudes = Magnitudes.of(histogram)
    return magnitudes.range(magnitudes.counts.size, "max")


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "entropy": entropy,
    "entropy-unguarded": entropy_unguarded,
    "percentile": percentile,
    "mse": mse,
    "max": maximum,
}
