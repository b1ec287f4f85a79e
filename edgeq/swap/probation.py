"""What a version did since it was published, beside the one before it -> whether it may stay."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from dataclasses import dataclass

RECORDED = 512  # requests of a version whose inference times are kept
# A median that grew by less is noise of the box, whatever the ratio: with both cores taken, 30
# inferences of a 0.08 ms model took 0.72 ms.
LATENCY_FLOOR_S = 0.002


@dataclass(frozen=True)
class Health:
    """What the live version did since it was published; malformed requests do not count."""

    requests: int = 0
    errors: int = 0  # the engine failed
    nonfinite: int = 0  # a float output held NaN or infinity where the golden outputs hold none


@dataclass(frozen=True)
class Latency:
    """The median inference time over the latest requests of a version."""

    requests: int = 0
    median_s: float = 0.0


@dataclass(frozen=True)
class ProbationOptions:
    """When a version that was just published is taken back."""

    window_s: float = 30.0
    max_error_ratio: float = 0.01  # of the requests since it was published
    min_requests: int = 1  # before any verdict
    max_latency_ratio: float = 1.5  # of the median inference time to the previous version's
    min_timed: int = 20  # requests of either version before their times are compared


class LatencyRecord:
    """The inference times of one version's latest requests; any thread may add one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=RECORDED)
        self._count = 0

    def add(self, seconds: float) -> None:
        """Take one request's time inside the engine."""
        with self._lock:
            self._seconds.append(seconds)
            self._count += 1

    def since(self, count: int) -> tuple[int, list[float]]:
        """Return how many were taken in all, and the times after the first `count`, 512 at most."""
        with self._lock:
            total, seconds = self._count, list(self._seconds)
        return total, seconds[max(0, len(seconds) - (total - count)) :]

    @property
    def latency(self) -> Latency:
        """The median of what was recorded."""
        with self._lock:
            seconds = list(self._seconds)
        return Latency(len(seconds), statistics.median(seconds)) if seconds else Latency()


def probation_verdict(health: Health, options: ProbationOptions) -> str:
    """Return the reason to roll back, or "" where there is none."""
    if health.requests < options.min_requests:
        return ""
    for count, what in (
        (health.errors, "failed in the engine"),
        (health.nonfinite, "gave NaN or infinity"),
    ):
        if count > options.max_error_ratio * health.requests:
            return (
                f"{count} of {health.requests} requests {what}; "
                f"probation allows {options.max_error_ratio:.2%}"
            )
    return ""


def latency_verdict(new: Latency, before: Latency, options: ProbationOptions) -> str:
    """Return the reason to roll back a version that is too slow, or "" where there is none."""
    if min(new.requests, before.requests) < options.min_timed:
        return ""
    grew_s = new.median_s - before.median_s
    if grew_s < LATENCY_FLOOR_S or new.median_s <= options.max_latency_ratio * before.median_s:
        return ""
    return (
        f"the median inference took {new.median_s * 1e3:.3g} ms over {new.requests} requests, "
        f"{before.median_s * 1e3:.3g} ms before over {before.requests}: "
        f"{new.median_s / before.median_s:.2f} times as long; "
        f"probation allows {options.max_latency_ratio:g}"
    )
