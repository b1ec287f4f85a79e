"""What a model's drift led to until now -> may it be recalibrated again? Kept in the registry."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeq.drift.state import DriftState

DAY_S = 86_400.0
MOST_DOUBLINGS = 6  # of the least interval, by refusals in a row
MORE = 2  # times the samples: what was chance on fewer may be told apart
CHANGED = 0.5  # of its distance from calibration, up or down: other inputs than were tried
MARKS = 64  # of what was captured by when
MARKS_IN_WINDOW = 16


@dataclass(frozen=True)
class Episode:
    """A drift that is not over."""

    since: float  # seconds since the epoch
    stratum: str  # of what is captured since
    before: str  # the stratum to go on with where it passes by itself


@dataclass(frozen=True)
class History:
    """What must outlive the daemon, so that a restart is no way around interval and budget."""

    episode: Episode | None = None
    started: tuple[float, ...] = ()  # recalibrations by drift, the latest day's
    latest: float = 0.0  # recalibration by whomever
    refusals: int = 0  # in a row
    tried: Mapping[str, float] = field(default_factory=dict)  # stream -> distance, at the latest
    tried_on: int = 0  # samples of the new kind, at the latest

    @classmethod
    def from_note(cls, note: Mapping[str, Any] | None) -> History:
        """Read what `as_note` gave; nothing where it cannot be read."""
        if note is None:
            return cls()
        try:
            episode = note["episode"]
            return cls(
                episode=Episode(**episode) if episode else None,
                started=tuple(map(float, note["started"])),
                latest=float(note["latest"]),
                refusals=int(note["refusals"]),
                tried={str(name): float(value) for name, value in note["tried"].items()},
                tried_on=int(note["tried_on"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):  # of another edgeq
            return cls()

    def as_note(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    def after_start(
        self, now: float, state: DriftState | None, *, samples: int, by_drift: bool
    ) -> History:
        """Return this with a recalibration that starts now on so many samples of the new kind."""
        started = (*self._recent(now), now) if by_drift else self._recent(now)
        tried = distances(state) if state else self.tried
        return replace(self, started=started, latest=now, tried=tried, tried_on=samples)

    def after_refusal(self) -> History:
        """Return this with a recalibration that led to nothing."""
        return replace(self, refusals=self.refusals + 1)

    def after_success(self) -> History:
        """Return this with a recalibration that serves: its drift is over."""
        return replace(self, episode=None, refusals=0, tried={})

    def shifted(self, seconds: float) -> History:
        """Return this for a clock that was set by so much: what was an hour ago still is."""
        episode = self.episode
        return replace(
            self,
            episode=replace(episode, since=episode.since + seconds) if episode else None,
            started=tuple(at + seconds for at in self.started),
            latest=self.latest + seconds if self.latest else 0.0,
        )

    def after_return(self) -> History:
        """Return this with a drift that passed by itself; the next one may be tried."""
        return replace(self, episode=None, tried={})

    def why_not(
        self,
        state: DriftState,
        samples: int,
        now: float,
        *,
        minimum_interval_s: float,
        daily_budget: int,
    ) -> str:
        """Return why the drift is not to be answered with a recalibration yet, "" where it is."""
        recent, latest = self._recent(now), self.latest if self.latest <= now else 0.0
        interval_s = minimum_interval_s * 2.0 ** min(self.refusals, MOST_DOUBLINGS)
        if now - latest < interval_s:
            last, wait_s = "was refused" if self.refusals else "was", latest + interval_s - now
            return f"the last one {last} {_span(now - latest)} ago; the next in {_span(wait_s)}"
        if len(recent) >= daily_budget:
            wait_s = recent[-daily_budget] + DAY_S - now
            return f"{len(recent)} in the last 24 h are the budget; the next in {_span(wait_s)}"
        is_new = samples >= MORE * self.tried_on or has_changed(self.tried, state)
        if self.refusals and self.tried and not is_new:
            return (
                "the last one was refused, and the inputs are as they were then; the next with "
                f"{MORE * self.tried_on} samples since the drift began, not {samples}"
            )
        return ""

    def _recent(self, now: float) -> tuple[float, ...]:
        """The latest day's; what lies in the future is of a clock that was wrong."""
        return tuple(at for at in self.started if now - DAY_S < at <= now)


def distances(state: DriftState) -> dict[str, float]:
    """Return how far each stream is from calibration, by the statistic that decides."""
    return {t.tensor: t.value for t in state.tensors if math.isfinite(t.value)}


def has_changed(tried: Mapping[str, float], state: DriftState) -> bool:
    """True where a stream is much nearer or farther than it was, by more than its threshold."""
    return any(
        abs(t.value - tried.get(t.tensor, 0.0))
        > max(t.threshold, CHANGED * tried.get(t.tensor, 0.0))
        for t in state.tensors
    )


class Captures:
    """When how many requests had been captured: since when may a window hold a drift's frames?"""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS)

    def mark(self, now: float, offered: int, window: int) -> None:
        """Remember a count, if it has grown by a part of a window."""
        if self._marks and offered < self._marks[-1][1]:  # pruned meanwhile
            self._marks.clear()
        if not self._marks or offered - self._marks[-1][1] >= window / MARKS_IN_WINDOW:
            self._marks.append((now, offered))

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set."""
        self._marks = deque(((at + seconds, n) for at, n in self._marks), maxlen=MARKS)

    def since(self, offered: int, frames: int) -> float:
        """Return a time since when at least the last `frames` requests were captured, or 0."""
        early = [at for at, count in self._marks if count <= offered - frames]
        return max(early, default=0.0)


def _span(seconds: float) -> str:
    """Return a time in words for people, rounded up."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{math.ceil(seconds / length)} {unit}"
    return f"{max(0, math.ceil(seconds))} s"
