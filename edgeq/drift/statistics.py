"""Two histograms of 256 codes -> how far apart they are, by Evidently's conventions.

Evidently 0.7.23 is what is matched, to 1e-9: bins by Sturges' rule over the joint range where the
reference has more than 20 distinct values, else one for each value; in PSI and KL an empty bin
counts as 0.0001, or as a millionth of the least share where that is smaller still.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CODES = np.arange(256)
DISTINCT = 20  # up to so many distinct values are compared as categories
EMPTY_SHARE = 1e-4
LEAST_DEVIATION = 0.001


def binned(reference: Array, live: Array, *, is_categorical: bool = False) -> tuple[Array, Array]:
    """Return both histograms as shares of the same bins."""
    p, q = reference / reference.sum(), live / live.sum()
    if is_categorical or np.count_nonzero(reference) <= DISTINCT:
        filled = (reference > 0) | (live > 0)
        return p[filled], q[filled]
    bins = _bins((reference > 0) | (live > 0), float(reference.sum() + live.sum()))
    count = int(bins.max()) + 1
    return np.bincount(bins, p, count), np.bincount(bins, q, count)


def psi(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the population stability index of counts [256] against counts [256]."""
    p, q = binned(reference, live, is_categorical=is_categorical)
    p, q = _filled(p), _filled(q)
    return float(((p - q) * np.log(p / q)).sum())


def kl_divergence(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the relative entropy of the reference to the live shares, in nats."""
    p, q = binned(reference, live, is_categorical=is_categorical)
    p, q = _filled(p), _filled(q)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def js_distance(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the Jensen-Shannon distance, natural logarithm: 0 to sqrt(ln 2)."""
    p, q = binned(reference, live, is_categorical=is_categorical)
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2))


def hellinger(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the Hellinger distance: 0 to 1. Its bins follow from the distinct values."""
    p, q = reference / reference.sum(), live / live.sum()
    if not is_categorical:
        occurs = (reference > 0) | (live > 0)
        bins = _bins(occurs, float(np.count_nonzero(occurs)))
        p, q = np.bincount(bins, p), np.bincount(bins, q)
    return math.sqrt(1.0 - min(1.0, float(np.sqrt(p * q).sum())))


def ks_statistic(reference: Array, live: Array) -> float:
    """Return the Kolmogorov-Smirnov statistic: 0 to 1."""
    return float(np.abs(np.cumsum(reference / reference.sum() - live / live.sum())).max())


def wasserstein_ratio(reference: Array, live: Array) -> float:
    """Return the first Wasserstein distance over the reference's deviation; both in codes."""
    p, q = reference / reference.sum(), live / live.sum()
    distance = float(np.abs(np.cumsum(p - q)).sum())
    return distance / max(deviation(p), LEAST_DEVIATION)


def deviation(shares: Array) -> float:
    """Return the standard deviation in codes."""
    mean = float(shares @ CODES)
    return math.sqrt(float(shares @ np.square(CODES - mean)))


def _bins(occurs: Array, size: float) -> Array:
    """The bin of every code, by Sturges' rule for `size` values over the codes that occur."""
    codes = np.flatnonzero(occurs)
    low, high = float(codes[0]), float(codes[-1])
    if low == high:
        low, high, count = low - 0.5, high + 0.5, 1
    else:
        count = math.ceil((high - low) / ((high - low) / (np.log2(size) + 1.0)))
    edges = np.linspace(low, high, count + 1)
    bins = np.searchsorted(edges, CODES, side="right") - 1
    return np.clip(bins, 0, count - 1)  # what does not occur has no share


def _filled(shares: Array) -> Array:
    least = float(shares[shares > 0].min())
    return np.where(shares > 0, shares, least / 1e6 if least <= EMPTY_SHARE else EMPTY_SHARE)


def _relative_entropy(p: Array, q: Array) -> float:
    filled = p > 0  # where p > 0, q > 0: q is a mean of p and another
    return float((p[filled] * np.log(p[filled] / q[filled])).sum())
