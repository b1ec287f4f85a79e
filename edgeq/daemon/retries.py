"""What the box refused -> when to try it again: after twice the time each time, for ever.

Where it is kept in a file, a restart is no way around the wait.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from edgeq import files

DROP_FIRST_S, DROP_LONGEST_S = 5.0, 300.0
BUILD_FIRST_S, BUILD_LONGEST_S = 60.0, 6 * 3600.0


class Retries:
    """Names that are to be tried again; safe to share between threads.

    Args:
        first_s: how long the first wait is; each further one is twice as long.
        longest_s: the longest of them.
        clock: seconds of a clock that does not jump.
        path: of the file that keeps them over a restart, None: they are forgotten.
    """

    def __init__(
        self,
        first_s: float,
        longest_s: float,
        clock: Callable[[], float] = time.monotonic,
        path: Path | None = None,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[str, float] = {}  # the latest of each name
        self._due: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._path = path
        self._load()

    def _load(self) -> None:
        """Go on with what is left of each wait; never more than it was, whatever the clock says."""
        if self._path is None:
            return
        # None is there, or a crash tore it, or another edgeq wrote it: then all is tried at once.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            for name, kept in json.loads(self._path.read_bytes()).items():
                wait_s = min(float(kept["wait_s"]), self._longest_s)
                left_s = min(max(0.0, float(kept["due"]) - time.time()), wait_s)
                self._waits[name], self._tries[name] = wait_s, int(kept["tries"])
                self._due[name] = self._clock() + left_s

    def _save(self) -> None:
        """Keep them, with the lock held; a disk that refuses it may be why there are any."""
        if self._path is None:
            return
        offset = time.time() - self._clock()
        kept = {
            name: {
                "wait_s": wait_s,
                "tries": self._tries[name],
                "due": self._due.get(name, self._clock()) + offset,
            }
            for name, wait_s in self._waits.items()
        }
        with contextlib.suppress(OSError):
            if kept:
                files.write_atomic(self._path, json.dumps(kept).encode())
            else:
                self._path.unlink(missing_ok=True)

    def postpone(self, name: str) -> float:
        """Have a name tried again; returns in how many seconds."""
        with self._lock:
            wait_s = min(2 * self._waits.get(name, self._first_s / 2), self._longest_s)
            self._waits[name] = wait_s
            self._due[name] = self._clock() + wait_s
            self._tries[name] += 1
            self._save()
        return wait_s

    def forget(self, name: str) -> None:
        """What was to be tried again has succeeded, or is not wanted any more."""
        with self._lock:
            self._due.pop(name, None)
            self._tries.pop(name, None)
            if self._waits.pop(name, None) is not None:
                self._save()

    def tries(self, name: str) -> int:
        """Return how often in a row a name was postponed."""
        with self._lock:
            return self._tries[name]

    def due_in_s(self, name: str) -> float | None:
        """Return when a name is tried again; None where it is not to be."""
        with self._lock:
            due = self._due.get(name)
        return None if due is None else max(0.0, due - self._clock())

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
