"""Engines at work -> the runs that hang: far longer than the model ever took.

A thread cannot be ended in Python: who finds a hang has the engine replaced, and leaves it to the
thread that is inside.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from edgeq.engines.base import EngineKind
from edgeq.swap.pool import Instance, Pool

T = TypeVar("T")

USUAL_TIMES = 20  # of the usual time; for a quick model the floor is far more than that
UNKNOWN_TIMES = 6  # of the floor, for a model that was never timed
# Between two looks. What is beyond was no run that took long, but a process that did not run: it
# was stopped, swapped out, or its box was asleep.
LONGEST_GAP_S = 2.0


class Watched(Protocol):
    """What is asked of a slot."""

    @property
    def name(self) -> str:
        """The model's."""

    def runs(self) -> list[Run]:
        """Return the engines at work, of all versions."""

    def hang_bound_s(self, pool: Pool, instance: Instance) -> float:
        """Return how long the run of an engine may take before it is taken for hung."""

    def give_up(self, instance: Instance, why: str) -> bool:
        """Leave an engine to a run that hangs; False where that cannot be."""


@dataclass(frozen=True, eq=False)
class Run:
    """An engine at work."""

    slot: Watched
    pool: Pool
    instance: Instance
    since: float  # time.monotonic()


@dataclass(frozen=True, eq=False)
class Hang:
    """A run that hangs."""

    run: Run
    seconds: float  # that it was seen to take
    bound_s: float

    @property
    def name(self) -> str:
        """The model's."""
        return self.run.slot.name

    @property
    def version(self) -> str:
        """What hangs."""
        return self.run.pool.info.version

    @property
    def engine(self) -> EngineKind:
        """What kind of engine hangs."""
        return self.run.instance.engine.kind

    @property
    def is_inline(self) -> bool:
        """True where it holds the thread of the server's loop, from which nothing can be taken."""
        return self.run.instance.at_work is None

    @property
    def key(self) -> tuple[Instance, float]:
        """What tells this run from others."""
        return self.run.instance, self.run.since

    @property
    def words(self) -> str:
        """What happened."""
        return (
            f"the {self.engine} engine of version {self.version} has not answered for "
            f"{self.seconds:.0f} s; {self.bound_s:.0f} s is its bound"
        )


class HangWatch:
    """Looks at all engines every now and then; used by one thread."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seen: dict[Instance, tuple[float, float]] = {}  # a run's beginning, and time at work
        self._given_up: list[Instance] = []

    def look(
        self, slots: Iterable[Watched], now: float, inline_bound_s: float = float("inf")
    ) -> list[Hang]:
        """Return the runs that hang; again each time, until they are given up or end.

        Args:
            slots: of all models.
            now: time.monotonic().
            inline_bound_s: the most that a run on its caller's thread may take.
        """
        gap_s, self._last = min(now - self._last, LONGEST_GAP_S), now
        seen, found = {}, []
        for run in [run for slot in slots for run in slot.runs()]:
            since, seconds = self._seen.get(run.instance, (run.since, 0.0))
            is_same = since == run.since and run.instance in self._seen
            seconds = seconds + gap_s if is_same else min(now - run.since, gap_s)
            seen[run.instance] = run.since, seconds
            bound_s = run.slot.hang_bound_s(run.pool, run.instance)
            if run.instance.at_work is None:
                bound_s = min(bound_s, inline_bound_s)
            if seconds >= bound_s:
                found.append(Hang(run, seconds, bound_s))
        self._seen = seen
        return found

    def give_up(self, hang: Hang) -> bool:
        """Free slot and requests of a run; False where it holds its caller, or has just ended."""
        is_given_up = hang.run.slot.give_up(hang.run.instance, hang.words)
        if is_given_up:
            self._given_up.append(hang.run.instance)
        return is_given_up

    @property
    def threads_left(self) -> int:
        """How many threads are inside runs that were given up."""
        self._given_up = [each for each in self._given_up if each.busy_since]
        return len(self._given_up)


def usual_bound_s(floor_s: float, typical_s: float, requests: int) -> float:
    """Return how long a run may take, by what one request takes; infinity: that is not known."""
    if typical_s == float("inf"):
        return UNKNOWN_TIMES * floor_s
    return max(floor_s, USUAL_TIMES * typical_s * requests)


def within(seconds: float, work: Callable[[], T], late: Callable[[T], None], name: str) -> T:
    """Do work on a thread of its own, and return its result.

    Args:
        seconds: how long it may take; then its thread is left to itself.
        work: what it raises, the caller gets.
        late: takes a result that came after that, on its thread.
        name: of the thread.

    Raises:
        TimeoutError: it took longer.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    lock = threading.Lock()
    is_awaited = True

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - raised again where it is waited for
            error = raised
        with lock:
            if is_awaited:
                answers.put((result, error))
                return
        if error is None:
            late(cast("T", result))

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        with lock:
            is_awaited = False
        if answers.empty():
            raise TimeoutError(f"it was not done after {seconds:g} s") from None
        result, error = answers.get()
    if error is not None:
        raise error
    return cast("T", result)
