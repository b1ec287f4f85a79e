"""The clock of this box against one that cannot be set -> by how much it was set meanwhile.

A Jetson whose clock has no battery starts in 1970, and jumps when it hears of the time; people and
wrong servers set it back. What lasts is measured with clocks that do not jump; what is written
down with the time of day is moved along, so that an hour ago stays an hour ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_S = 30.0  # a time server's own corrections are below: 0.128 s at once, the rest by its pace


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # which goes on while the board sleeps


class ClockWatch:
    """Looks whether the clock was set; used by the deploy thread only.

    Args:
        wall: seconds since the epoch.
        steady: seconds of a clock that nobody sets.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _boot_time
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def look(self) -> float:
        """Return by how many seconds the clock was set since the last look, 0.0 for not at all."""
        offset = self._wall() - self._steady()
        jump, self._offset = offset - self._offset, offset
        return jump if abs(jump) >= JUMP_S else 0.0


def jump_in_words(jump: float, now: float) -> str:
    """Return what happened to a clock that says `now`, in seconds since the epoch."""
    form = "%Y-%m-%dT%H:%M:%SZ"
    before = time.strftime(form, time.gmtime(max(0.0, now - jump)))
    after = time.strftime(form, time.gmtime(max(0.0, now)))
    return f"the clock was set from {before} to {after}"
