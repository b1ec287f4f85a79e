"""Events of the drop folder -> hints that something may have changed.

They are hints only: a `mv` never sends a close, an overwriting `cp` never sends a create, and a
slow writer closes nothing for minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from edgeq import files
from edgeq.intake.names import STATUS_SUFFIX, is_ignored


class EventHints(FileSystemEventHandler):
    """Calls `on_hint` when something in the drop folder may have changed.

    Args:
        models_dir: made where it is missing.
        on_hint: called on the observer's own thread; must return at once.
    """

    def __init__(self, models_dir: Path, on_hint: Callable[[], None]) -> None:
        self._directory = models_dir
        self._on_hint = on_hint
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None  # the folder's device and inode
        self._is_lost = False  # it was removed; the next of its name may have the same inode
        self.problem = ""  # why there are no events: then scans alone find drops

    def start(self) -> bool:
        """Start; False where the system has no events to give, and `problem` says why."""
        try:
            files.make_directory(self._directory)
            observer = Observer()  # opens inotify, so it can fail as well
            # Not by a link's name, which inotify is told not to follow.
            watched = os.path.realpath(self._directory)
            observer.schedule(self, watched, recursive=True)
            observer.start()
        except OSError as error:
            self.problem = f"no file events for {self._directory}: {error}"
            return False
        self._observer = observer
        self._watched, self._is_lost = _identity(self._directory), False
        return True

    def keep(self) -> None:
        """Watch the folder anew where it is another one by now: events are of the one that was."""
        now = _identity(self._directory)
        is_other = self._is_lost or now != self._watched
        if self._observer is not None and now is not None and is_other:
            self.stop()
            self.start()

    def stop(self) -> None:
        """Stop and wait for the observer's thread."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Give a hint, but not for what the daemon's own reading and writing causes."""
        if event.event_type == "deleted" and event.is_directory:
            self._is_lost = True  # or a folder inside; then it is watched anew for nothing
        is_reading = event.event_type in ("opened", "closed_no_write")
        is_echo = event.is_directory and event.event_type == "modified"  # of a file's own event
        if is_reading or is_echo:
            return
        names = [os.path.basename(os.fsdecode(p)) for p in (event.src_path, event.dest_path) if p]
        if not all(is_ignored(name) or name.endswith(STATUS_SUFFIX) for name in names):
            self._on_hint()


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
