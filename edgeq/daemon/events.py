"""What happened to a model -> the registry's events, also where the disk refuses them for a while.

An event tells of what has been done: that it cannot be written must not undo the rest, or leave it
half done. It is kept in memory instead, and written with the time it happened at.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from edgeq.daemon.faults import Faults
from edgeq.errors import RegistryError
from edgeq.registry import Event, Registry

KEPT = 1000  # while the registry takes none; the oldest leave first


class Events:
    """Writes events, now or later; safe to share between threads."""

    def __init__(self, registry: Registry, faults: Faults) -> None:
        self._registry = registry
        self._faults = faults
        self._lock = threading.Lock()
        self._kept: deque[Event] = deque(maxlen=KEPT)

    def record(
        self, name: str, kind: str, message: str, version: int | None = None, **fields: Any
    ) -> None:
        """Write an event as `Registry.record` does, or keep it; never raises RegistryError."""
        self._kept.append(Event(time.time(), name, version, kind, message, fields))
        self._write()

    def write_kept(self) -> None:
        """Write the events that the registry refused before, and those of faults."""
        self._write()
        self._faults.write_events()

    def close(self) -> None:
        """Write what there is for the last time."""
        self._write()
        self._faults.write_events(is_last=True)

    def _write(self) -> None:
        with self._lock:  # one thread at a time, for the order
            while self._kept:
                event = self._kept[0]
                try:
                    self._registry.record(
                        event.name,
                        event.kind,
                        event.message,
                        event.version,
                        at=event.time,
                        **event.fields,
                    )
                except RegistryError as error:
                    self._faults.note_error(error, "events are kept in memory")
                    return
                self._kept.popleft()
