"""Two share vectors over the same bins -> how far apart they are, and what chance alone gives.

Definitions as in Evidently (research named there: PSI with empty bins at 1e-4, Jensen-Shannon with
the natural logarithm), but for bins that the reference never filled: see `psi`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

EMPTY_SHARE = 1e-4  # stands for an empty bin
DRAWS = 2000
DRAWS_AT_ONCE = 100
NULL_QUANTILE = 0.999
LEAST_FRAMES = 4  # fewer say nothing about how frames differ among themselves


def psi(reference: Array, live: Array, frames: int) -> Array:
    """Return the population stability index along the last axis.

    An empty bin counts as 1e-4. Where the reference is empty, it counts as what `frames` frames
    may have missed, 1 / (frames + 1), but not as more than there is live: a first value beyond
    the extremes of 16 samples is no news, all values beyond them are.
    """
    q = np.where(live > 0, live, EMPTY_SHARE)
    missed = np.clip(q, EMPTY_SHARE, max(EMPTY_SHARE, 1.0 / (frames + 1)))
    p = np.where(reference > 0, reference, missed)
    index: Array = ((q - p) * np.log(q / p)).sum(axis=-1)
    return index


def js_distance(p: Array, q: Array) -> float:
    """Return the Jensen-Shannon distance, natural logarithm: 0 to sqrt(ln 2)."""
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2))


def _relative_entropy(p: Array, q: Array) -> float:
    filled = p > 0  # where p > 0, q > 0: q is a mean of p and another
    return float((p[filled] * np.log(p[filled] / q[filled])).sum())


def ks_statistic(p: Array, q: Array) -> float:
    """Return the Kolmogorov-Smirnov statistic at the bin edges: 0 to 1."""
    return float(np.abs(np.cumsum(p - q)).max())


def wasserstein_distance(p: Array, q: Array, edges: Array) -> float:
    """Return the first Wasserstein distance of shares spread evenly within their bins.

    Args:
        p: shares [bins].
        q: shares [bins].
        edges: rising [bins + 1].
    """
    difference = np.concatenate([[0.0], np.cumsum(p - q)])
    left, right = difference[:-1], difference[1:]
    total = np.abs(left) + np.abs(right)
    crosses = left * right < 0
    squares = np.square(left) + np.square(right)
    mean = np.where(crosses, squares / np.where(crosses, 2 * total, 1.0), total / 2)
    return float(mean @ np.diff(edges))


def chance_threshold(frames: Array, window: int) -> float:
    """Return the PSI that windows without drift stay under, 999 in 1000.

    Pixels of a frame hang together, so frames are what is drawn: 2000 times a reference and a
    window, with replacement, from the calibration frames (bootstrap; the same every time). The
    draws vary less than fresh frames would, by (n - 1) / n. Measured on 64-value frames of varying
    brightness and contrast, windows of 10 to 200: under 1 % false alarms from 4 frames on.

    Args:
        frames: shares [frames, bins].
        window: how many live frames are compared.
    """
    count = len(frames)
    if count < LEAST_FRAMES:
        return math.inf
    draw = np.random.default_rng(0)
    even = np.full(count, 1.0 / count)
    values = []
    for _ in range(DRAWS // DRAWS_AT_ONCE):
        reference = draw.multinomial(count, even, DRAWS_AT_ONCE) @ frames / count
        live = draw.multinomial(window, even, DRAWS_AT_ONCE) @ frames / window
        values.append(psi(reference, live, count))
    return float(np.quantile(np.concatenate(values), NULL_QUANTILE)) * count / (count - 1)
