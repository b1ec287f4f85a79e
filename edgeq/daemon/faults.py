"""What goes wrong with the box -> a counter, an event and a line of the log, each with a hint.

A fault is of the box or of a process, never of a drop or a request. Any thread may note one:
nothing here waits for the disk, which may be what is at fault. The events are written by the
deploy thread, as soon as the registry takes them.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.errors import EdgeqError, RegistryError, UnavailableError
from edgeq.observe.metrics import FaultKind, Metrics
from edgeq.registry import Registry

logger = logging.getLogger(__name__)

EVENT_INTERVAL_S = 3600.0  # between two events of a kind: at most 24 a day of 10,000 kept
LOG_INTERVAL_S = 60.0  # between two lines of a kind
WRITE_INTERVAL_S = 10.0  # between two attempts at a registry that takes no events

HINTS: dict[FaultKind, str] = {
    "disk_full": "Free space on the disk of the state folder; edgeq goes on by itself.",
    "out_of_inodes": "Remove files from the disk of the state folder: `df -i` shows its inodes.",
    "read_only": "Look at `dmesg` for errors of the disk, check it, and mount it read-write.",
    "io_error": "Look at `dmesg` and `smartctl -a`: the disk or its cable may be failing.",
    "clock_jump": "Look at `timedatectl`; edgeq itself measures with a clock that does not jump.",
    "fork_failed": "Raise TasksMax= of the unit or kernel.pid_max, or end other processes.",
    "out_of_memory": "Lower build.memory_bytes or samples.maximum, or give the box more memory.",
    "out_of_descriptors": "Raise LimitNOFILE= of the unit, or lower server.max_connections.",
    "engine_hung": "Look at `edgeq history`; roll back where it is always the same version.",
    "child_hung": "Look at `edgeq history` for the model; it is tried again after a while.",
    "thread_hung": "Look at the log for where it is; `systemctl restart edgeq` frees it.",
    "crash_loop": "Look at `journalctl -u edgeq` for why it died.",
}
OF_ERRNO: dict[int, FaultKind] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
    errno.EAGAIN: "fork_failed",
    errno.ENOMEM: "out_of_memory",
    errno.EMFILE: "out_of_descriptors",
    errno.ENFILE: "out_of_descriptors",
}
# Errors without a number: SQLite's own words (its codes are in Python's errors from 3.11 on), and
# those of a thread that cannot be started.
OF_WORDS: dict[str, FaultKind] = {
    "database or disk is full": "disk_full",
    "attempt to write a readonly database": "read_only",
    "disk I/O error": "io_error",
    "out of memory": "out_of_memory",
    "can't start new thread": "fork_failed",
}


def kind_of(error: BaseException, folder: Path | None = None) -> FaultKind | None:
    """Return which fault of the box an error tells of, None where it tells of none.

    Args:
        error: with what caused it, as `raise ... from` keeps it.
        folder: on the disk that may be full: without inodes, the kernel says ENOSPC as well.
    """
    for each in _causes(error):
        kind: FaultKind | None = None
        if isinstance(each, MemoryError):
            kind = "out_of_memory"
        elif isinstance(each, OSError):
            kind = OF_ERRNO.get(each.errno or 0)
        elif isinstance(each, (sqlite3.Error, RuntimeError)):
            kind = next((k for text, k in OF_WORDS.items() if text in str(each)), None)
        if kind == "disk_full" and folder is not None and _is_out_of_inodes(folder):
            return "out_of_inodes"
        if kind is not None:
            return kind
    return None


def as_edgeq_error(error: BaseException, kind: FaultKind | None = None) -> EdgeqError:
    """Return an error with message and hint; an UnavailableError where the box was at fault."""
    if kind is not None:
        return UnavailableError(str(error) or kind, hint=HINTS[kind])
    return error if isinstance(error, EdgeqError) else EdgeqError(str(error) or repr(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _is_out_of_inodes(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0


@dataclass(frozen=True)
class _Pending:
    """Faults of one kind that no event tells of yet: the last of them, and how many."""

    message: str
    model: str
    hint: str
    count: int
    first: float  # seconds since the epoch


class Faults:
    """Notes faults; safe to share between threads.

    Args:
        registry: where the events go.
        metrics: where they are counted.
        folder: the state folder.
        clock: seconds of a clock that does not jump.
    """

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: dict[FaultKind, _Pending] = {}
        self._logged: dict[FaultKind, float] = {}
        self._recorded: dict[FaultKind, float] = {}
        self._next_write = float("-inf")

    def note(self, kind: FaultKind, message: str, *, model: str = "", hint: str = "") -> None:
        """Count a fault, log it and have an event written; never waits and never raises.

        Args:
            kind: which of the enumeration.
            message: what happened to what.
            model: the name of the model that it concerns, "" for the whole daemon.
            hint: what to do; "" for what is right for most faults of this kind.
        """
        self._metrics.faults.labels(kind).inc()
        hint = hint or HINTS[kind]
        with self._lock:
            known = self._pending.get(kind)
            pending = _Pending(message, model, hint, 1, time.time())
            if known is not None:
                pending = replace(pending, count=known.count + 1, first=known.first)
            self._pending[kind] = pending
            is_news = self._clock() - self._logged.get(kind, float("-inf")) >= LOG_INTERVAL_S
            if is_news:
                self._logged[kind] = self._clock()
        if is_news:
            fields = {"model": model} if model else {}
            logger.error(f"{kind}: {message}", extra={**fields, "hint": hint})

    def note_error(
        self, error: BaseException, message: str = "", *, model: str = ""
    ) -> FaultKind | None:
        """Note the fault of the box that an error tells of; None where it tells of none.

        Args:
            error: with its causes.
            message: what was being done; the error's own words are added.
            model: as for `note`.
        """
        kind = kind_of(error, self._folder)
        if kind is not None:
            self.note(kind, f"{message}: {error}" if message else str(error), model=model)
        return kind

    def write_events(self, *, is_last: bool = False) -> None:
        """Write the events that are due; those that the registry refuses are kept.

        Args:
            is_last: the daemon ends: what was only counted since the last event is written, too.
        """
        now = self._clock()
        if not self._pending or (now < self._next_write and not is_last):
            return
        with self._lock:
            due = [
                (kind, pending)
                for kind, pending in self._pending.items()
                if is_last or now - self._recorded.get(kind, float("-inf")) >= EVENT_INTERVAL_S
            ]
        for kind, pending in due:
            try:
                self._record(kind, pending)
            except RegistryError:  # what is at fault, often: counted and logged it is already
                self._next_write = now + WRITE_INTERVAL_S
                return
            self._recorded[kind] = now

    def _record(self, kind: FaultKind, pending: _Pending) -> None:
        """Write one event, and keep what was noted meanwhile."""
        self._registry.record(
            pending.model,
            "fault",
            f"{kind}: {pending.message}",
            fault=kind,
            count=pending.count,
            first=round(pending.first, 3),
            hint=pending.hint,
        )
        with self._lock:
            more = self._pending[kind].count - pending.count
            if more:
                self._pending[kind] = replace(self._pending[kind], count=more)
            else:
                del self._pending[kind]
