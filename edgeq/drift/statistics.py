"""Two histograms of 256 codes -> how far apart they are, by Evidently's conventions.

Evidently 0.7.23 is what is matched, to 1e-9: bins by Sturges' rule over the joint range where the
reference has more than 20 distinct values, else one for each value; in PSI and KL an empty bin
counts as 0.0001, or as a millionth of the least share where that is no more than 0.0001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.drift.stream import CODES, StreamKind

Array = npt.NDArray[Any]
Statistic = Literal["psi", "js_distance", "wasserstein_ratio"]

CODE = np.arange(CODES)
DISTINCT = 20  # up to so many distinct values are compared as categories
EMPTY_SHARE = 1e-4
LEAST_DEVIATION = 0.001


def deciding_statistic(kind: StreamKind) -> Statistic:
    """Return which statistic decides for a stream of this kind, chosen by what was measured.

    Single values leave bins empty that PSI then punishes: with no drift up to 8 % of windows of 50
    alarmed where 1 % was asked for, with Wasserstein 1 %, which found darkening and blur in half of
    the frames. Where a frame has many values, PSI sees a stuck camera that Wasserstein and KS often
    miss. Classes have no order, and the Jensen-Shannon distance needs no stand-in for empty ones.
    """
    if kind == "scalar":
        return "wasserstein_ratio"
    return "js_distance" if kind == "classes" else "psi"


@dataclass(frozen=True)
class Distances:
    """Every statistic of one comparison."""

    psi: float
    js_distance: float
    hellinger: float
    wasserstein_ratio: float | None  # None: classes have no order
    ks_ratio: float | None

    @classmethod
    def between(cls, reference: Array, live: Array, *, is_categorical: bool = False) -> Distances:
        """Compare counts [256] with counts [256]; both hold something."""
        p, q = binned(reference, live, is_categorical=is_categorical)
        return cls(
            psi=float(psi_of_shares(p, q)),
            js_distance=float(js_of_shares(p, q)),
            hellinger=hellinger(reference, live, is_categorical=is_categorical),
            wasserstein_ratio=None if is_categorical else wasserstein_ratio(reference, live),
            ks_ratio=None if is_categorical else ks_statistic(reference, live),
        )


def binned(reference: Array, live: Array, *, is_categorical: bool = False) -> tuple[Array, Array]:
    """Return both histograms as shares of the same bins."""
    p, q = reference / reference.sum(), live / live.sum()
    occurs = (reference > 0) | (live > 0)
    if is_categorical or np.count_nonzero(reference) <= DISTINCT:
        return p[occurs], q[occurs]
    bins, count = sturges_bins(occurs, float(reference.sum() + live.sum()))
    return np.bincount(bins, p, count), np.bincount(bins, q, count)


def sturges_bins(occurs: Array, size: float) -> tuple[Array, int]:
    """Return the bin of every code, and how many bins, by Sturges' rule for `size` values.

    The bins lie over the range of the codes that occur; the bin of another code means nothing.
    """
    codes = np.flatnonzero(occurs)
    low, high = float(codes[0]), float(codes[-1])
    if low == high:
        return np.zeros(CODES, np.int64), 1
    count = math.ceil((high - low) / ((high - low) / (np.log2(size) + 1.0)))
    edges = np.linspace(low, high, count + 1)
    return np.clip(np.searchsorted(edges, CODE, side="right") - 1, 0, count - 1), count


def psi(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the population stability index of counts [256] against counts [256]."""
    return float(psi_of_shares(*binned(reference, live, is_categorical=is_categorical)))


def psi_of_shares(p: Array, q: Array) -> Array:
    """Return the population stability index along the last axis."""
    p, q = _filled(p), _filled(q)
    index: Array = ((p - q) * np.log(p / q)).sum(axis=-1)
    return index


def kl_divergence(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the relative entropy of the reference to the live shares, in nats."""
    p, q = binned(reference, live, is_categorical=is_categorical)
    p, q = _filled(p), _filled(q)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def js_distance(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the Jensen-Shannon distance, natural logarithm: 0 to sqrt(ln 2)."""
    return float(js_of_shares(*binned(reference, live, is_categorical=is_categorical)))


def js_of_shares(p: Array, q: Array) -> Array:
    """Return the Jensen-Shannon distance along the last axis."""
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    distance: Array = np.sqrt(np.maximum(divergence, 0.0))
    return distance


def hellinger(reference: Array, live: Array, *, is_categorical: bool = False) -> float:
    """Return the Hellinger distance: 0 to 1. Its bins follow from the distinct values."""
    p, q = reference / reference.sum(), live / live.sum()
    if not is_categorical:
        occurs = (reference > 0) | (live > 0)
        bins, _ = sturges_bins(occurs, float(np.count_nonzero(occurs)))
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
    mean = float(shares @ CODE)
    return math.sqrt(float(shares @ np.square(CODE - mean)))


def _filled(shares: Array) -> Array:
    least = np.where(shares > 0, shares, 1.0).min(axis=-1, keepdims=True)
    return np.where(shares > 0, shares, np.where(least <= EMPTY_SHARE, least / 1e6, EMPTY_SHARE))


def _relative_entropy(p: Array, middle: Array) -> Array:
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, middle, 1.0)
    entropy: Array = (p * np.log(ratio)).sum(axis=-1)
    return entropy
