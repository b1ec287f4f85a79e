"""Stages as they begin, advance and end -> progress for people, seconds for metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # stage, done, total (0 where unknown)


class Stages:
    """Names the running stage to `progress` and keeps how long each took."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._name = ""
        self._total = 0
        self._started = 0.0

    def begin(self, name: str, total: int = 0) -> None:
        """End the running stage and start the next; one that ran before adds up."""
        self.end()
        self._name, self._total, self._started = name, total, time.perf_counter()
        self.tick(0)

    def end(self) -> None:
        """End the running stage."""
        if self._name:
            seconds = self.seconds.get(self._name, 0.0) + time.perf_counter() - self._started
            self.seconds[self._name] = round(seconds, 4)
        self._name = ""

    def tick(self, done: int) -> None:
        """Report `done` of the stage's total."""
        if self._progress is not None:
            self._progress(self._name, done, self._total)
