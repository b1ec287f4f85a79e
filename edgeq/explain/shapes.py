"""Histogram -> the shape of its distribution, as tags.

- `dead`: every value is 0.  `constant`: every value is the same, not 0.
- `all_positive`: none is below 0.  `all_negative`: none is above 0.
- `lopsided`: both signs, and one end reaches at least 3 times as far as the other.
- `heavy_tail`: of the values that are not 0, the largest magnitude is at least 4 times what 99.9 %
  keep within: to hold it costs the others 2 bits.
- `bimodal`: two humps, each with a tenth of the values at least, and between them a valley at most
  half as high as the lower one, by more than chance makes of counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, Histogram

Array = npt.NDArray[Any]

LOPSIDED = 3.0
HEAVY_TAIL = 4.0
BULK = 0.999  # of the values that are not 0
HUMP_SHARE = 0.1
VALLEY = 0.5  # of the lower hump's height
CERTAIN = 4.0  # standard deviations of a count
COARSE_BINS = 32


def shape_tags(histogram: Histogram) -> tuple[str, ...]:
    """Return what can be said of the values' distribution; nothing where there are none."""
    if histogram.count == 0:
        return ()
    low, high = histogram.min, histogram.max
    if low == high:
        return ("dead",) if low == 0.0 else ("constant",)
    tests = {
        "all_positive": low >= 0.0,
        "all_negative": high <= 0.0,
        "lopsided": low < 0.0 < high and max(-low, high) >= LOPSIDED * min(-low, high),
        "heavy_tail": _has_heavy_tail(histogram),
        "bimodal": _is_bimodal(histogram),
    }
    return tuple(tag for tag, holds in tests.items() if holds)


def _has_heavy_tail(histogram: Histogram) -> bool:
    counts, width = histogram.magnitudes()
    inside = np.cumsum(counts[1:])  # without the zeros, and what is as good as 0
    if inside.size == 0 or inside[-1] == 0:
        return False
    bulk = int(np.searchsorted(inside, BULK * inside[-1])) + 2  # bins of |x|, the first included
    largest = max(-histogram.min, histogram.max)
    return bool(largest >= HEAVY_TAIL * bulk * width)


def _is_bimodal(histogram: Histogram) -> bool:
    counts = _coarse(histogram)
    total = counts.sum()
    before = np.maximum.accumulate(counts)  # the highest bin up to here, and from here on
    behind = np.maximum.accumulate(counts[::-1])[::-1]
    lower = np.minimum(before, behind)
    mass = np.cumsum(counts)
    is_valley = (
        (counts <= VALLEY * lower)
        & (lower - counts >= CERTAIN * np.sqrt(lower))
        & (mass - counts >= HUMP_SHARE * total)
        & (total - mass >= HUMP_SHARE * total)
    )
    return bool(is_valley.any())


def _coarse(histogram: Histogram) -> Array:
    """Return the counts from minimum to maximum in about 32 equal bins, without the zeros' peak.

    Whole bins are added, so that no bin holds more values than its neighbour only by its width.
    """
    counts = histogram.bins.astype(np.float64)
    counts[BINS] = min(counts[BINS - 1 : BINS + 2 : 2].max(), counts[BINS])  # a ReLU's is no hump
    filled = np.flatnonzero(histogram.bins)
    used = counts[filled[0] : filled[-1] + 1]
    together = -(-used.size // COARSE_BINS)
    padded = np.append(used, np.zeros(-used.size % together))
    coarse: Array = padded.reshape(-1, together).sum(axis=1)
    return coarse
