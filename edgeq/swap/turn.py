"""How long inferences on an event loop's thread may hold up one turn of the loop."""

from __future__ import annotations

import asyncio

# With 16 clients of a model that takes 0.5 ms, a request to another model waited 25 ms where all
# inferences ran on the loop's thread, and 0.4 ms with this bound; as many were answered, and a lone
# client still met no worker (2 x86 cores).
TURN_S = 0.001


class TurnBudget:
    """Counts the time spent in the present turn; the slots of one loop share it.

    A loop handles all connections that are ready before it looks for more: whoever asks first in a
    turn is answered at once, the others when the budget is spent by workers. What was spent in
    turns before may count, up to half of the budget. Threads without a loop spend nothing.
    """

    def __init__(self, seconds: float = TURN_S) -> None:
        self._seconds = seconds
        self._spent_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None  # that will start the next turn

    @property
    def is_left(self) -> bool:
        """Say whether the caller may be held up further."""
        return self._spent_s < self._seconds

    def spend(self, seconds: float) -> None:
        """Take an inference on the caller's thread into account."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._loop not in (None, loop):
            self._loop, self._spent_s = None, 0.0
        self._spent_s += seconds
        # Not for each: a callback is one more turn, 6 us, which a quick inference hardly takes.
        if self._loop is None and self._spent_s >= self._seconds / 2:
            self._loop = loop
            loop.call_soon(self._start_turn)

    def _start_turn(self) -> None:
        self._loop, self._spent_s = None, 0.0
