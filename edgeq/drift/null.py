"""Counts of calibration frames -> what chance alone makes of every stream, by window size.

Pixels of a frame hang together, so frames are what is drawn: many times a reference and a window,
with replacement, from the calibration frames (bootstrap), and the same frames for all streams.
Each stream's statistic is brought to about a normal shape by a root, and standardized; the largest
over the streams is what bounds the chance that any of them alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.options import MOST_FALSE_ALARMS
from edgeq.drift.statistics import (
    CODE,
    DISTINCT,
    LEAST_DEVIATION,
    Statistic,
    deciding_statistic,
    js_of_shares,
    psi_of_shares,
    sturges_bins,
)
from edgeq.drift.stream import CODES, Stream

Array = npt.NDArray[Any]

WINDOWS = (5, 10, 25, 50, 100, 200, 500, 1000, 2000, 5000)
DRAWS = 1000
TAIL = MOST_FALSE_ALARMS  # the share of draws that the tail is told from
LEAST_FRAMES = 4  # fewer say nothing about how frames differ among themselves
LEAST_SPREAD = 1e-4

# A chi-square's cube root is close to normal (Wilson and Hilferty 1931); PSI is like a chi-square,
# the other two like the root of one.
ROOT: Mapping[Statistic, float] = {"psi": 1 / 3, "js_distance": 2 / 3, "wasserstein_ratio": 2 / 3}


@dataclass(frozen=True)
class Null:
    """Location and spread of what windows without drift give.

    The last axis is: the deciding statistic, the lower rail, the upper rail. A rail's statistic is
    the difference of the square roots of the live and the reference share.
    """

    frames: Array  # int64 [streams], calibration frames that have the stream
    center: Array  # float64 [windows, streams, 3], of the statistic's root
    spread: Array  # float64 [windows, streams, 3]
    level: Array  # float64 [windows], that the largest standardized statistic passes in TAIL
    excess: Array  # float64 [windows], by how much on average

    def bounds(self, ratio: float) -> Array:
        """Return what the roots stay under but for `ratio` of windows, [windows, streams, 3].

        Beyond the level the tail is taken as exponential, which is safe for one that falls
        quicker. The spread is known from so many frames only: Student's quantile in place of the
        normal one, by the first term of Cornish and Fisher's expansion.
        """
        factor = (self.level + self.excess * math.log(TAIL / ratio))[:, np.newaxis]
        freedom = np.maximum(self.frames - 1, 1)
        student = factor * (1 + (np.square(factor) + 1) / (4 * freedom))
        bounds: Array = self.center + student[:, :, np.newaxis] * self.spread
        return bounds


def measure_null(streams: Sequence[Stream], counts: Mapping[str, Array]) -> Null:
    """Draw references and windows of every size; the same every time.

    Args:
        streams: what is watched.
        counts: of each stream int [frames, 256]; a row of zeros where a frame lacks it.
    """
    tables = [_Table.of(stream, counts[stream.name]) for stream in streams]
    draw = np.random.default_rng(0)
    groups = {table.place: table.frames for table in tables}
    draws = {place: _Draws(draw, frames) for place, frames in groups.items()}
    shape = (len(WINDOWS), len(tables), 3)
    center, spread = np.zeros(shape), np.zeros(shape)
    level, excess = np.zeros(len(WINDOWS)), np.zeros(len(WINDOWS))
    for row, size in enumerate(WINDOWS):
        largest = np.full(DRAWS, -np.inf)
        for column, table in enumerate(tables):
            if table.frames < LEAST_FRAMES:
                continue
            drawn = draws[table.place]
            roots = table.roots(drawn.reference, drawn.window(size), size)
            center[row, column] = roots.mean(axis=0)
            deviations = roots.std(axis=0) + LEAST_SPREAD
            standardized = (roots[:, 0] - center[row, column, 0]) / deviations[0]
            largest = np.maximum(largest, standardized)
            spread[row, column] = deviations * math.sqrt(table.frames / (table.frames - 1))
        level[row], excess[row] = _tail(largest)
    return Null(np.array([t.frames for t in tables], np.int64), center, spread, level, excess)


def _tail(largest: Array) -> tuple[float, float]:
    if not np.isfinite(largest).all():
        return 0.0, 0.0
    top = np.sort(largest)[-int(TAIL * DRAWS) :]
    return float(top[0]), float((top - top[0]).mean())


class _Draws:
    """How often each frame is drawn, over the number drawn: float32 [draws, frames]."""

    def __init__(self, draw: np.random.Generator, frames: int) -> None:
        self._even = np.full(frames, 1.0 / frames)
        self._draw = draw
        self._windows: dict[int, Array] = {}
        self.reference = self.window(frames)

    def window(self, size: int) -> Array:
        """Draw windows of `size` frames; once for all streams, so that they hang together."""
        if size not in self._windows:
            self._windows = {size: self._times(size).astype(np.float32) / np.float32(size)}
        return self._windows[size]

    def _times(self, size: int) -> Array:
        """How often each frame is drawn; one by one is quicker for windows that hold few."""
        frames = len(self._even)
        if size > 2 * frames:
            return self._draw.multinomial(size, self._even, DRAWS)
        drawn = self._draw.integers(0, frames, (DRAWS, size))
        drawn += np.arange(DRAWS)[:, np.newaxis] * frames
        return np.bincount(drawn.reshape(-1), minlength=DRAWS * frames).reshape(DRAWS, frames)


@dataclass(frozen=True)
class _Table:
    """One stream's frames, as shares."""

    stream: Stream
    shares: Array  # float32 [frames, 256]
    values: float  # of a frame, on average
    place: bytes  # which frames these are: others have draws of their own

    @classmethod
    def of(cls, stream: Stream, counts: Array) -> _Table:
        sums = counts.sum(axis=1)
        kept = counts[sums > 0]
        shares = (kept / np.maximum(sums[sums > 0], 1)[:, np.newaxis]).astype(np.float32)
        return cls(stream, shares, float(sums[sums > 0].mean()), (sums > 0).tobytes())

    @property
    def frames(self) -> int:
        return len(self.shares)

    def roots(self, reference: Array, window: Array, size: int) -> Array:
        """The three roots of every draw, float64 [draws, 3]."""
        statistic = deciding_statistic(self.stream.kind)
        measured = (
            self._wasserstein(reference, window)
            if statistic == "wasserstein_ratio"
            else self._of_bins(statistic, reference, window, size)
        )
        ends = np.ascontiguousarray(self.shares[:, [0, CODES - 1]])
        p, q = np.maximum(reference @ ends, 0.0), np.maximum(window @ ends, 0.0)
        return np.column_stack([measured ** ROOT[statistic], np.sqrt(q) - np.sqrt(p)])

    def _of_bins(self, statistic: Statistic, reference: Array, window: Array, size: int) -> Array:
        binned = self._binned(size)
        p, q = (reference @ binned).astype(np.float64), (window @ binned).astype(np.float64)
        measured = psi_of_shares(p, q) if statistic == "psi" else js_of_shares(p, q)
        return np.maximum(measured, 0.0)

    def _binned(self, size: int) -> Array:
        """Shares of the bins that a comparison with `size` frames would have, or about those."""
        occurs: Array = np.asarray(self.shares.any(axis=0))
        if self.stream.is_categorical or np.count_nonzero(occurs) <= DISTINCT:
            return np.ascontiguousarray(self.shares[:, np.flatnonzero(occurs)])
        bins, count = sturges_bins(occurs, (size + self.frames) * self.values)
        belongs = np.zeros((CODES, count), np.float32)
        belongs[CODE, bins] = occurs
        return self.shares @ belongs

    def _wasserstein(self, reference: Array, window: Array) -> Array:
        """Between two codes that occur the distribution functions are level."""
        codes = np.flatnonzero(self.shares.any(axis=0))
        steps = np.cumsum(self.shares[:, codes], axis=1)[:, :-1]
        moments = (self.shares @ np.column_stack([CODE, np.square(CODE)])).astype(np.float64)
        mean, square = (reference @ moments).T
        deviation = np.sqrt(np.maximum(square - np.square(mean), LEAST_DEVIATION**2))
        distance = np.abs((reference - window) @ steps) @ np.diff(codes).astype(np.float32)
        ratio: Array = distance / deviation
        return ratio
