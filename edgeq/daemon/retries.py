"""What the box refused -> when to try it again: after twice the time each time, for ever."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

DROP_FIRST_S, DROP_LONGEST_S = 5.0, 300.0
BUILD_FIRST_S, BUILD_LONGEST_S = 60.0, 6 * 3600.0


class Retries:
    """Names that are to be tried again; safe to share between threads.

    Args:
        first_s: how long the first wait is; each further one is twice as long.
        longest_s: the longest of them.
        clock: seconds of a clock that does not jump.
    """

    def __init__(
        self, first_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[str, float] = {}  # the latest of each name
        self._due: dict[str, float] = {}
        self._tries: Counter[str] = Counter()

    def postpone(self, name: str) -> float:
        """Have a name tried again; returns in how many seconds."""
        with self._lock:
            wait_s = min(2 * self._waits.get(name, self._first_s / 2), self._longest_s)
            self._waits[name] = wait_s
            self._due[name] = self._clock() + wait_s
            self._tries[name] += 1
        return wait_s

    def forget(self, name: str) -> None:
        """What was to be tried again has succeeded, or is not wanted any more."""
        with self._lock:
            self._waits.pop(name, None)
            self._due.pop(name, None)
            self._tries.pop(name, None)

    def tries(self, name: str) -> int:
        """Return how often in a row a name was postponed."""
        with self._lock:
            return self._tries[name]

    def is_waiting(self, name: str) -> bool:
        """True until the name is due."""
        with self._lock:
            return name in self._due

    def take_due(self) -> list[str]:
        """Return the names whose time has come, each once."""
        with self._lock:
            due = [name for name, at in self._due.items() if at <= self._clock()]
            for name in due:
                del self._due[name]
        return due
