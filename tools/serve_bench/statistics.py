"""Latencies -> a round's figures; a row's rounds -> medians, ranges, ratios to another row's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Round:
    """What one measurement came to."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int = 0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and how far they lie apart."""

    median: float
    low: float
    high: float


def round_of(latencies_s: Sequence[float], seconds: float, errors: int = 0) -> Round:
    """Return the figures of one measurement, of all its threads together."""
    if not latencies_s:
        return Round(0, seconds, float("nan"), float("nan"), errors)
    p50, p99 = np.percentile(np.asarray(latencies_s) * 1e3, (50, 99))
    return Round(len(latencies_s), seconds, float(p50), float(p99), errors)


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of round by round ratios, which a machine's drift does not reach."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def paired_difference(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of round by round differences."""
    return statistics.median(a - b for a, b in zip(values, others, strict=True))
