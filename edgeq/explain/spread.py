"""A histogram and a range -> how its values spread over the 256 INT8 codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, Histogram

Array = npt.NDArray[Any]

CODES = 256
MIDDLE = 0.999  # of the values; the rest may be anywhere


@dataclass(frozen=True)
class Spread:
    """What one mapping to INT8 makes of a tensor's values."""

    step: float  # between two codes
    counts: Array  # of codes -128 to 127; a bin that several codes share is divided among them
    used: int  # codes that the middle 99.9 % of the values span


def spread(histogram: Histogram, lo: float, hi: float) -> Spread:
    """Map a histogram's values to INT8 with a range that is widened to hold 0."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    step = (hi - lo) / (CODES - 1) or 1.0
    filled = np.flatnonzero(histogram.bins)
    if not filled.size:
        return Spread(step, np.zeros(CODES), 0)
    first, last = int(filled[0]), int(filled[-1])
    places = (np.arange(first, last + 2) - BINS) * histogram.width
    places = np.clip(places, histogram.min, histogram.max)
    below = np.concatenate([[0.0], np.cumsum(histogram.bins[first : last + 1])])
    borders = lo + (np.arange(1, CODES) - 0.5) * step
    passed = np.interp(borders, places, below, left=0.0, right=below[-1])
    counts = np.diff(np.concatenate([[0.0], passed, [below[-1]]]))
    tails = np.array([1.0 - MIDDLE, 1.0 + MIDDLE]) / 2 * below[-1]
    ends = np.clip(np.rint((np.interp(tails, below, places) - lo) / step), 0, CODES - 1)
    return Spread(step, counts, int(ends[1] - ends[0]) + 1)
