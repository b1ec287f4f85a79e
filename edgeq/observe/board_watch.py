"""Sources of readings -> what they say now, within a deadline, whatever hangs.

A read of a sensor can hang in the kernel (a monitor on a stuck I2C bus, a dead network filesystem).
Each source is read on a thread of its own for each scrape; one that is not done in time is left out
of the page, and not asked again until it is.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from edgeq.observe.board import MAX_READINGS, Reading

PATIENCE_S = 0.5  # a scraper waits 10 s for the whole page

Read = Callable[[], Iterable[Reading]]


class BoardWatch:
    """Asks every source at once; threads that are not stuck end with the call that started them.

    Args:
        sources: name -> what reads it.
        patience_s: how long a source may take before it is left out.
    """

    def __init__(self, sources: Mapping[str, Read], patience_s: float = PATIENCE_S) -> None:
        self._sources = dict(sources)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._passes: dict[str, _Pass] = {}  # the latest of each source

    def read(self) -> tuple[list[Reading], dict[str, bool]]:
        """Return the readings, and which sources answered."""
        begun = {name: self._begin(name) for name in self._sources}
        found = {name: each.result() for name, each in begun.items()}
        readings = itertools.chain.from_iterable(result or () for result in found.values())
        return list(readings), {name: result is not None for name, result in found.items()}

    def _begin(self, name: str) -> _Pass:
        """Start to read a source, or join who is at it."""
        with self._lock:
            latest = self._passes.get(name)
            if latest is None or latest.is_over:
                latest = self._passes[name] = _Pass(name, self._sources[name], self._patience_s)
            return latest


class _Pass:
    """One reading of one source on a thread that a stuck read keeps, and nothing waits for."""

    def __init__(self, name: str, read: Read, patience_s: float) -> None:
        self._read = read
        self._readings: list[Reading] | None = None
        self._deadline = time.monotonic() + patience_s
        self._thread = threading.Thread(target=self._run, name=f"board-{name}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """True once the thread has ended."""
        return not self._thread.is_alive()

    def result(self) -> list[Reading] | None:
        """Return what was read, or None where it takes too long."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return None if self._thread.is_alive() else self._readings

    def _run(self) -> None:
        self._readings = _distinct(itertools.islice(self._read(), MAX_READINGS))


def _distinct(readings: Iterable[Reading]) -> list[Reading]:
    """Number the places that come twice: two series of the same labels would spoil the page."""
    seen: dict[tuple[str, str], int] = {}
    distinct = []
    for each in readings:
        key = (each.quantity, each.place)
        count = seen[key] = seen.get(key, 0) + 1
        place = each.place if count == 1 else f"{each.place} {count}"
        distinct.append(Reading(each.quantity, place, each.value))
    return distinct
