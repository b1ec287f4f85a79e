"""The server's loop, asked for a sign of life -> may the watchdog be told that all is well?"""

from __future__ import annotations

from collections.abc import Callable

Answer = Callable[[], None]


class Heartbeat:
    """Asks, and asks again once it is answered; used by one thread, answered on another.

    Args:
        ask: has the answer called on the server's loop, at its next turn; never waits.
        wake: called after each answer, on the server's loop.
        interval_s: time between two questions at least.
    """

    def __init__(
        self, ask: Callable[[Answer], None], wake: Callable[[], None], interval_s: float
    ) -> None:
        self.interval_s = interval_s
        self._ask = ask
        self._wake = wake
        self._asked_at: float | None = None
        self._next = float("-inf")
        self._is_answered = False

    def look(self, now: float) -> bool:
        """Return True once for each answer, and ask where it is time to."""
        is_news = self._is_answered
        if is_news:
            self._is_answered, self._asked_at = False, None
        if self._asked_at is None and now >= self._next:
            self._asked_at, self._next = now, now + self.interval_s
            self._ask(self._answer)
        return is_news

    def late_s(self, now: float) -> float:
        """Return how long the present question has been open."""
        return 0.0 if self._asked_at is None or self._is_answered else now - self._asked_at

    def _answer(self) -> None:
        self._is_answered = True
        self._wake()
