"""What a process does to the files below a folder -> points to die at, and what a power cut undoes.

Every step is announced by Python's audit hooks before it happens (PEP 578), fsync by a wrapper:
each process that dies at point k leaves what the k - 1 steps before it left. SQLite's own steps
are not seen; it is its callers' order of transactions that counts here.

A power cut keeps what was synced and may lose the rest. Lost here is all that may be: the second
half of a file that was not synced, and every rename, removal and new folder since its directory
was synced last.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KILLED = 137
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class _Change:
    """A step that only the sync of `directory` makes durable."""

    directory: Path
    made: Path | None  # what it made, which any sync below makes durable, too
    undo: Callable[[], None]


@dataclass
class Disk:
    """Counts the steps below `root` and ends the process at one of them.

    Args:
        root: only what lies below counts.
        shadow: a folder on the same filesystem, for copies of what may have to come back.
        die_at: the step, 1 is the first; 0 counts only.
        is_power_cut: the power goes, instead of the process alone.
    """

    root: Path
    shadow: Path
    die_at: int = 0
    is_power_cut: bool = False
    steps: list[str] = field(default_factory=list)
    losable: list[bool] = field(default_factory=list)  # whether a power cut before it takes more
    _unsynced: set[Path] = field(default_factory=set)
    _changes: list[_Change] = field(default_factory=list)
    _is_inside: bool = False

    def watch(self) -> None:
        """Begin; for the rest of this process's life, as hooks cannot be removed."""
        self._fsync = os.fsync
        os.fsync = self._synced  # type: ignore[assignment]
        sys.addaudithook(self._heard)

    def stop(self) -> None:
        """Count no more."""
        self.root = Path("/nonexistent")

    # ---- what is heard

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        handler = HANDLERS.get(event)
        if handler is None or self._is_inside:
            return
        self._is_inside = True  # its own steps do not count
        try:
            handler(self, *arguments)
        finally:
            self._is_inside = False

    def _synced(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if self._counts(path):
            self._step(f"fsync {path.name}")
            self._unsynced.discard(path)
            self._changes = [
                change
                for change in self._changes
                if change.directory != path
                and (change.made is None or change.made not in (path, *path.parents))
            ]
        self._fsync(descriptor)

    def _open(self, path: Any, _mode: Any, flags: int) -> None:
        if isinstance(path, int) or not flags & WRITING:
            return
        file = _path(path)
        if self._counts(file):
            self._step(f"open {file.name}")
            self._unsynced.add(file)

    def _rename(self, source: Any, target: Any, source_at: int, target_at: int) -> None:
        old, new = _path(source, source_at), _path(target, target_at)
        if not self._counts(new):
            return
        self._step(f"rename {old.name} {new.name}")
        if old in self._unsynced:
            self._unsynced.remove(old)
            self._unsynced.add(new)
        kept = self._keep(new) if new.is_file() else None

        def undo() -> None:
            os.rename(new, old)
            if kept is not None:
                os.link(kept, new)

        self._changes.append(_Change(new.parent, None, undo))

    def _remove(self, path: Any, at: int) -> None:
        file = _path(path, at)
        if not self._counts(file):
            return
        self._step(f"remove {file.name}")
        self._unsynced.discard(file)
        if file.is_file() and not file.is_symlink():
            kept = self._keep(file)
            self._changes.append(_Change(file.parent, None, lambda: os.link(kept, file)))

    def _make(self, path: Any, _mode: int, at: int) -> None:
        made = _path(path, at)
        if self._counts(made):
            self._step(f"mkdir {made.name}")
            undo = lambda: shutil.rmtree(made)  # noqa: E731
            self._changes.append(_Change(made.parent, made, undo))

    def _remove_folder(self, path: Any, at: int) -> None:
        folder = _path(path, at)
        if self._counts(folder):
            self._step(f"rmdir {folder.name}")
            self._changes.append(_Change(folder.parent, None, lambda: os.mkdir(folder)))

    def _link(self, _source: Any, target: Any, _source_at: int, target_at: int) -> None:
        made = _path(target, target_at)
        if self._counts(made):
            self._step(f"link {made.name}")
            self._changes.append(_Change(made.parent, made, made.unlink))

    # ---- steps and deaths

    def _counts(self, path: Path) -> bool:
        return self.root in (path, *path.parents)

    def _step(self, what: str) -> None:
        self.steps.append(what)
        self.losable.append(bool(self._unsynced or self._changes))
        if len(self.steps) == self.die_at:
            if self.is_power_cut:
                self._cut_power()
            os._exit(KILLED)

    def _keep(self, path: Path) -> Path:
        kept = self.shadow / f"{os.getpid()}-{len(self.steps)}"
        os.link(path, kept)
        return kept

    def _cut_power(self) -> None:
        self._is_inside = True
        for path in self._unsynced:
            if path.is_file():
                os.truncate(path, path.stat().st_size // 2)
        for change in reversed(self._changes):
            try:
                change.undo()
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                continue  # what it is about was lost with a later change already


def _path(path: Any, at: int = -1) -> Path:
    name = os.fsdecode(path)
    if at >= 0 and not os.path.isabs(name):
        return Path(os.readlink(f"/proc/self/fd/{at}")) / name
    return Path(os.path.abspath(name))


HANDLERS: dict[str, Callable[..., None]] = {
    "open": Disk._open,
    "os.rename": Disk._rename,
    "os.remove": Disk._remove,
    "os.mkdir": Disk._make,
    "os.rmdir": Disk._remove_folder,
    "os.link": Disk._link,
}
