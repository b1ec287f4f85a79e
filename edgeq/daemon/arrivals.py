"""The drop folder -> candidates, one at a time: what serves already first, then in their order.

A folder may be flooded: each look is paid for by ten times its length without one, a file that is
written again while it waits takes its own place, and an update of a served model passes all others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeq.intake.hints import EventHints
from edgeq.intake.watch import Candidate, Scanner

logger = logging.getLogger(__name__)

PENDING_SCAN_S = 0.25  # while a drop has not settled
SCAN_SHARE = 0.1  # of the time, at most, is spent on looking


class Arrivals:
    """Looked for on one thread, taken on another.

    Args:
        scanner: finds what has settled.
        hints: say when to look; they are started and stopped by whoever made them.
        is_served: True for the name of a model that serves.
        on_arrival: called for each candidate found, of which `take` then returns one.
        on_removal: called with the name of a drop that was removed.
    """

    def __init__(
        self,
        scanner: Scanner,
        hints: EventHints,
        is_served: Callable[[str], bool],
        on_arrival: Callable[[], None],
        on_removal: Callable[[str], None],
    ) -> None:
        self._scanner = scanner
        self._hints = hints
        self._is_served = is_served
        self._on_arrival = on_arrival
        self._on_removal = on_removal
        self._lock = threading.Lock()
        self._waiting: dict[Path, Candidate] = {}
        self._problem = ""  # with the drop folder
        self._rests_until = 0.0  # time.monotonic()

    def look(self, rescan_s: float) -> float:
        """Look at the drop folder; return the seconds until the next look."""
        started = time.monotonic()
        if started < self._rests_until:  # whatever events say: a flood has many
            return self._rests_until - started
        self._hints.keep()
        found = self._scanner.scan()
        ended = time.monotonic()
        self._rests_until = ended + (ended - started) / SCAN_SHARE
        if found.problem != self._problem:
            self._problem = found.problem
            logger.error(f"drop folder: {found.problem or 'readable again'}")
        for candidate in found.settled:
            with self._lock:
                self._waiting[candidate.fingerprint.path] = candidate
            self._on_arrival()
        for name in found.removed:
            self._on_removal(name)
        return max(PENDING_SCAN_S if found.pending else rescan_s, self._rests_until - ended)

    def take(self) -> Candidate | None:
        """Return the next candidate; None where all that was found is taken, or was replaced."""
        with self._lock:
            waiting = list(self._waiting.items())
            chosen = next((p for p, each in waiting if self._is_served(each.name)), None)
            chosen = chosen or next(iter(self._waiting), None)
            return None if chosen is None else self._waiting.pop(chosen)
