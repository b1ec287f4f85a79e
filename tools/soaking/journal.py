"""What is seen, from any thread: counts, violations, and when which failures are our own doing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MOST_KEPT = 200
EVIDENCE_SHOWN = 800
UNDO_GRACE_S = 5.0


@dataclass(frozen=True)
class Violation:
    """Something that must never be."""

    at_s: float  # since the start
    step: int
    what: str
    evidence: str


@dataclass
class Window:
    """A time in which something fails by our own doing."""

    kind: str
    begun: float
    ended: float = field(default=float("inf"))


class Journal:
    """Shared by all threads of a soak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: list[Window] = []
        self.begun = time.monotonic()
        self.step = -1
        self.violations: list[Violation] = []
        self.violated: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()  # by status, or by what failed
        self.actions: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def violate(self, what: str, evidence: Any = "") -> None:
        """Keep a violation; of many, the first ones and their number."""
        with self._lock:
            self.violated[what] += 1
            if len(self.violations) < MOST_KEPT:
                at_s = round(time.monotonic() - self.begun, 2)
                text = str(evidence)[:EVIDENCE_SHOWN]
                self.violations.append(Violation(at_s, self.step, what, text))

    def count(self, counter: Counter[str], key: str, number: int = 1) -> None:
        with self._lock:
            counter[key] += number

    @contextlib.contextmanager
    def window(self, kind: str) -> Iterator[None]:
        """Allow, within it, what this kind of trouble may cause."""
        self.open(kind)
        try:
            yield
        finally:
            self.close(kind)

    def open(self, kind: str) -> None:
        with self._lock:
            self._windows.append(Window(kind, time.monotonic()))

    def close(self, kind: str) -> None:
        with self._lock:
            for window in reversed(self._windows):
                if window.kind == kind and window.ended == float("inf"):
                    window.ended = time.monotonic()
                    return

    def is_allowed(self, kind: str, begun: float, grace_s: float = 0.0) -> bool:
        """True where a window of this kind lies, in part, between `begun` and now."""
        with self._lock:
            return any(w.kind == kind and w.ended + grace_s >= begun for w in self._windows)

    def undid(self, since: float, until: float) -> bool:
        """True where something between these moments undid what was not committed yet.

        Args:
            since: of time.time(), as `until`.
            until: when it was undone already.
        """
        shift = time.monotonic() - time.time()
        begun, ended = since + shift - UNDO_GRACE_S, until + shift
        with self._lock:
            return any(
                w.kind in ("down", "full disk") and w.ended >= begun and w.begun <= ended
                for w in self._windows
            )
