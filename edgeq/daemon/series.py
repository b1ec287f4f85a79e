"""A model's inference times as they are recorded -> a point for each 10 s of the last hour.

Kept in memory for the status page; what is to last longer is Prometheus' to keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeq.swap import LatencyRecord, LiveInfo

INTERVAL_S = 10
KEPT_S = 3600
SWAPS_KEPT = 32

Served = tuple[str, str]  # a version, and the engine that answered


class Point(NamedTuple):
    """What a version did in one interval; times of the last 512 requests in it, at most."""

    time: int  # of the interval's end, seconds since the epoch
    version: str
    engine: str
    requests: int
    p50_ms: float
    p99_ms: float


class SwapMark(NamedTuple):
    """From when on another version answers, or the same on another engine."""

    time: float  # seconds since the epoch
    version: str
    engine: str


class Series:
    """One model's last hour; `tick` is called by one thread, the rest is read by any."""

    def __init__(self) -> None:
        self.points: tuple[Point, ...] = ()
        self.swaps: tuple[SwapMark, ...] = ()
        self._counts: dict[Served, int] = {}  # requests of each record that are in a point
        self._interval: int | None = None
        self._serving: Served | None = None

    def tick(
        self, now: float, live: LiveInfo | None, records: Mapping[Served, LatencyRecord]
    ) -> None:
        """Note a swap, and once an interval is over its points; to be called every second.

        Args:
            now: seconds since the epoch.
            live: what serves.
            records: the times that were taken, by version and engine.
        """
        if live is not None:
            self._note_swap(now, live)
        interval = int(now // INTERVAL_S)
        if interval == self._interval:
            return
        ended, self._interval = self._interval, interval
        if ended is not None:
            self._end(ended, records)
        self._forget(now)

    def _note_swap(self, now: float, live: LiveInfo) -> None:
        before, self._serving = self._serving, (live.version, live.engine)
        if before is None or before == self._serving:
            return
        at = live.since if before[0] != live.version else now  # a fault has no time of its own
        mark = SwapMark(round(at, 3), live.version, live.engine)
        self.swaps = (*self.swaps[1 - SWAPS_KEPT :], mark)

    def _end(self, interval: int, records: Mapping[Served, LatencyRecord]) -> None:
        at, counts = (interval + 1) * INTERVAL_S, {}
        for served, record in records.items():
            counts[served], seconds = record.since(self._counts.get(served, 0))
            requests = counts[served] - self._counts.get(served, 0)
            if seconds:
                seconds.sort()
                times = (_quantile_ms(seconds, 0.5), _quantile_ms(seconds, 0.99))
                self.points = (*self.points, Point(at, *served, requests, *times))
        self._counts = counts

    def _forget(self, now: float) -> None:
        """Drop what is older, and what a clock that was set back left in the future."""
        first, last = now - KEPT_S, now + INTERVAL_S
        self.points = tuple(point for point in self.points if first < point.time <= last)
        self.swaps = tuple(mark for mark in self.swaps if first < mark.time <= last)


def _quantile_ms(ordered: Sequence[float], share: float) -> float:
    """The least value that this share of all does not exceed."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1e3, 4)
