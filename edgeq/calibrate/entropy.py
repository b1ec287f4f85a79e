"""Counts of |x| -> the clipping threshold with the least KL divergence (TensorRT's rule).

Source: Migacz, "8-bit inference with TensorRT", GTC 2017, and NVIDIA's pytorch-quantization
(HistogramCalibrator), which steps over every bin. For each candidate of i bins: P is the first i
bins with the clipped mass on the last; Q is the first i bins without it, merged into `levels`
levels and spread back over each level's non-empty bins; P > 0 where Q = 0 is infinite; the zero
bin first takes its neighbour's count; the last minimum wins.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TWO_SIDED_LEVELS = 128  # levels of |x| when INT8 has to hold both signs
ONE_SIDED_LEVELS = 256
MAX_BINS = 2048
AT_ONCE = 48  # candidates: 100 KB an array
# Divergences this close are one minimum: far above the rounding of either way to compute them
# (1e-13), far below any that matters (1e-4 between neighbouring candidates).
TIE = 1e-10


def entropy_threshold(counts: Array, levels: int) -> int:
    """Return how many bins of |x| to keep: at least `levels`, or all where there are fewer.

    Args:
        counts: of |x|, up to the bin that holds the maximum.
        levels: quantization levels for |x|, also the first candidate.
    """
    if counts.size <= levels:
        return int(counts.size)
    candidates = np.arange(levels, counts.size + 1)
    found = _divergences(_without_zero_peak(counts), candidates, _boundaries_for(counts, levels))
    return int(candidates[_last_minimum(found)])


def divergence(counts: Array, bins: int, levels: int) -> float:
    """Return KL(P || Q) in nats for keeping `bins` bins of |x|; may be infinite."""
    levels = min(levels, bins)  # with more levels than bins each bin is a level of its own
    candidates = np.array([bins])
    return float(
        _divergences(_without_zero_peak(counts), candidates, _boundaries(candidates, levels))[0]
    )


def divergence_curve(counts: Array, levels: int, points: int) -> tuple[Array, Array]:
    """Return some of the candidates, about evenly apart, and KL(P || Q) in nats of each.

    Both ends are among them; between, those whose last bin is not empty: all others are infinite
    where anything is clipped. With fewer bins than levels there is one candidate.
    """
    first = min(levels, counts.size)
    wanted = np.linspace(first, counts.size, points).astype(np.int64)
    usable = np.union1d(np.flatnonzero(counts) + 1, [first, counts.size])
    candidates = np.unique(usable[np.searchsorted(usable, wanted, side="right") - 1])
    boundaries = _boundaries(candidates, first)
    return candidates, _divergences(_without_zero_peak(counts), candidates, boundaries)


def _without_zero_peak(counts: Array) -> Array:
    """The zero bin takes its neighbour's count: without this rule ReLU nets fall apart.

    Measured: ResNet-8 at 33 % instead of 75.6 % top-1, for the zeros outweigh all else.
    """
    smoothed = counts.astype(np.float64)
    if smoothed.size > 1:
        smoothed[0] = smoothed[1]
    return smoothed


def _last_minimum(values: Array) -> int:
    return int(np.flatnonzero(values <= values.min() + TIE)[-1])


def _boundaries_for(counts: Array, levels: int) -> Array:
    return _all_boundaries(levels)[: counts.size - levels + 1]


@functools.lru_cache(maxsize=2)
def _all_boundaries(levels: int) -> Array:
    return _boundaries(np.arange(levels, MAX_BINS + 1), levels)


def _boundaries(candidates: Array, levels: int) -> Array:
    """First bin of each level, and the end: ceil(level * i / levels)  # [candidates, levels+1]."""
    products = candidates[:, None] * np.arange(levels + 1)[None, :]
    boundaries: Array = -(-products // levels)
    return boundaries


def _divergences(counts: Array, candidates: Array, boundaries: Array) -> Array:
    """KL of every candidate, by prefix sums over the bins.

    KL = [sum_bins p log p - sum_levels S log(S/N) - out log(S_last/N_last)] / total
         - log(total) + log(inside),  S and N a level's mass and number of non-empty bins.
    """
    mass = _prefix(counts)
    total, inside = mass[-1], mass[candidates]
    if total == 0:
        return np.zeros(candidates.size)
    last, outside = counts[candidates - 1], total - inside
    own = _prefix(_times_log(counts))[candidates - 1] + _times_log(last + outside)
    level_log, level_sum = _levels(counts, mass, boundaries)
    found: Array = (own - level_sum - outside * level_log) / total - math.log(total)
    found += np.log(np.maximum(inside, 1.0))
    found[((last == 0) & (outside > 0)) | (inside == 0)] = np.inf
    return found


def _levels(counts: Array, mass: Array, boundaries: Array) -> tuple[Array, Array]:
    """log(S/N) of each candidate's last level, and the sum of S log(S/N) over its levels.

    A part of the candidates at a time: arrays of all of them are fresh pages from the kernel at
    every step, 12 ms a search instead of 4 to 5.
    """
    occupied = _prefix((counts > 0).astype(np.float64))
    last, total = np.empty(len(boundaries)), np.empty(len(boundaries))
    for start in range(0, len(boundaries), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        sums = np.diff(mass[boundaries[part]], axis=1)
        sizes = np.diff(occupied[boundaries[part]], axis=1)
        logs = np.log(np.where(sums > 0, sums, 1.0) / np.maximum(sizes, 1.0))
        last[part], total[part] = logs[:, -1], np.einsum("ij,ij->i", sums, logs)
    return last, total


def _prefix(values: Array) -> Array:
    sums: Array = np.concatenate([[0.0], np.cumsum(values)])
    return sums


def _times_log(values: Array) -> Array:
    logs: Array = values * np.log(np.where(values > 0, values, 1.0))
    return logs


def entropy_threshold_loop(counts: Array, levels: int) -> int:
    """The published pseudo-code, bin by bin: what `entropy_threshold` must equal (200 x slower)."""
    if counts.size <= levels:
        return int(counts.size)
    smoothed = _without_zero_peak(counts)
    found = [divergence_loop(smoothed, i, levels) for i in range(levels, counts.size + 1)]
    return levels + _last_minimum(np.array(found))


def divergence_loop(smoothed: Array, bins: int, levels: int) -> float:
    """KL(P || Q) of one candidate, straight from the definition; `smoothed` as given, unchanged."""
    p = smoothed[:bins].copy()
    p[-1] += smoothed[bins:].sum()
    q = np.zeros(bins)
    level_of = np.arange(bins) * levels // bins
    for level in range(levels):
        filled = (level_of == level) & (smoothed[:bins] > 0)
        if filled.any():
            q[filled] = smoothed[:bins][filled].sum() / filled.sum()
    if p.sum() == 0:
        return 0.0
    if q.sum() == 0 or ((p > 0) & (q == 0)).any():
        return math.inf
    p, q = p / p.sum(), q / q.sum()
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))
