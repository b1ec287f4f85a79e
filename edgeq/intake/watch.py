"""The drop folder -> candidates: files that have rested long enough to be whole.

The truth is what two scans find unchanged; events only say when to look (hints.py).
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeq.intake.names import (
    MODEL_SUFFIX,
    SIDECAR_SUFFIX,
    SIGNATURE_SUFFIX,
    STATUS_SUFFIX,
    is_ignored,
    is_model_name,
    safe_name,
)

MAX_FILES = 10_000  # looked at in one scan: 0.4 s

_BESIDE = (SIDECAR_SUFFIX, SIGNATURE_SUFFIX, STATUS_SUFFIX)  # what lies beside drops: no folders
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISLNK, "a link to nothing"),
)


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written, replaced, appended to or made readable."""

    size: int
    mtime_ns: int
    ctime_ns: int  # unlike the modification time, nobody can set it back
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return a file's stamp; of a folder only its identity, for its content is not it."""
        if stat.S_ISDIR(status.st_mode):
            return cls(0, 0, 0, status.st_ino)
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True)
class Fingerprint:
    """A drop as a whole; a new one is a new drop."""

    path: Path
    model: Stamp
    sidecar: Stamp | None = None
    signature: Stamp | None = None


@dataclass(frozen=True)
class Candidate:
    """A drop that has settled; `refusal` says why it cannot be taken, "" where it can."""

    name: str
    path: Path  # links resolved
    sidecar: Path | None
    signature: Path | None
    fingerprint: Fingerprint
    refusal: str = ""
    hint: str = ""

    @property
    def has_changed(self) -> bool:
        """True where another file is there by now, which the scanner reports by itself."""
        try:
            return Stamp.of(self.path.stat()) != self.fingerprint.model
        except OSError:  # removed: what was copied of it is what was dropped
            return False


@dataclass(frozen=True)
class Scan:
    """What one look at the drop folder found new."""

    settled: tuple[Candidate, ...]
    pending: bool  # something is still changing: look again soon
    removed: tuple[str, ...]
    problem: str = ""  # why the folder itself cannot be read


@dataclass(frozen=True)
class _Found:
    candidate: Candidate
    parts: tuple[tuple[Path, Stamp], ...]  # all must have rested
    arrived_ns: int


class _RefusedError(Exception):
    """Why a file cannot be a drop, and what to do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Scanner:
    """Finds settled drops; each is reported once until its bytes, or its companions', change.

    Args:
        models_dir: the drop folder; it may be missing for a while.
        settle_s: how long size, times and inode must not change.
        clock: seconds, never going back.
        known: names that are looked at before any others; then come those that were seen first.
    """

    def __init__(
        self,
        models_dir: Path,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
        known: Iterable[str] = (),
    ) -> None:
        self._directory = models_dir
        self._settle_s = settle_s
        self._clock = clock
        self._known = tuple(known)
        self._rested: dict[Path, tuple[Stamp, float]] = {}  # since when a file is as it is
        self._reported: dict[str, Fingerprint] = {}
        self._refused: dict[Path, tuple[str, Fingerprint]] = {}
        self._missing: dict[str, float] = {}  # reported names whose file is gone, since when

    def forget(self, name: str) -> None:
        """Report a name's drop again at the next scan, though it did not change."""
        self._reported.pop(name, None)
        for path, (refused, _) in list(self._refused.items()):
            if refused == name:
                self._refused.pop(path, None)

    def scan(self) -> Scan:
        """Look once; an entry that cannot be read is never an error of the scan."""
        now = self._clock()
        root = Path(os.path.realpath(self._directory))
        try:
            folder = _Folder.of(root)
        except OSError as error:  # unmounted, perhaps: what was there is not taken as removed
            return Scan((), False, (), f"the drop folder {root} cannot be read: {error.strerror}")
        found, problem = _bounded(_look_around(root, folder, self._first()))
        self._note_changes(found, now)
        ready = [item for item in found if self._has_rested(item, now)]
        # What lies beyond the bound was not looked at, and may be there all the same.
        present = {item.candidate.name for item in found} | set(self._reported if problem else ())
        removed = self._take_removed(present, now)
        is_pending = len(ready) < len(found) or bool(self._missing)
        settled = (*self._new_refusals(ready), *self._new_drops(ready))
        return Scan(settled, is_pending, removed, problem)

    def _first(self) -> dict[str, int]:
        names = dict.fromkeys((*self._known, *self._reported))
        return {name: place for place, name in enumerate(names)}

    def _note_changes(self, found: list[_Found], now: float) -> None:
        parts = {path: stamp for item in found for path, stamp in item.parts}
        self._rested = {
            path: (stamp, self._since(path, stamp, now)) for path, stamp in parts.items()
        }

    def _since(self, path: Path, stamp: Stamp, now: float) -> float:
        known, since = self._rested.get(path, (None, now))
        return since if known == stamp else now

    def _has_rested(self, item: _Found, now: float) -> bool:
        return all(now - self._rested[path][1] >= self._settle_s for path, _ in item.parts)

    def _new_drops(self, ready: list[_Found]) -> Iterator[Candidate]:
        """Yield the newest drop of each name, where it is not the one reported last."""
        newest: dict[str, _Found] = {}
        for item in sorted(ready, key=lambda item: item.arrived_ns):
            if not item.candidate.refusal:
                newest[item.candidate.name] = item
        for name, item in newest.items():
            if self._reported.get(name) != item.candidate.fingerprint:
                self._reported[name] = item.candidate.fingerprint
                yield item.candidate

    def _new_refusals(self, ready: list[_Found]) -> Iterator[Candidate]:
        refused = [item.candidate for item in ready if item.candidate.refusal]
        known = self._refused
        self._refused = {c.fingerprint.path: (c.name, c.fingerprint) for c in refused}
        for candidate in refused:
            path = candidate.fingerprint.path
            if known.get(path) != self._refused[path]:
                yield candidate

    def _take_removed(self, present: set[str], now: float) -> tuple[str, ...]:
        """Return names gone as long as a file must rest: `rm` then `cp` is no removal."""
        gone = [name for name in list(self._reported) if name not in present]
        self._missing = {name: self._missing.get(name, now) for name in gone}
        removed = tuple(n for n, since in self._missing.items() if now - since >= self._settle_s)
        for name in removed:
            self._reported.pop(name, None)
            del self._missing[name]
        return removed


@dataclass(frozen=True)
class _Folder:
    """A folder that holds drops, with what it lists."""

    path: Path
    names: frozenset[str]
    is_real: bool = True  # no part of its path below the drop folder is a link

    @classmethod
    def of(cls, path: Path, *, is_real: bool = True) -> _Folder:
        return cls(path, frozenset(os.listdir(path)), is_real)


def _bounded(found: Iterator[_Found]) -> tuple[list[_Found], str]:
    """Take what one look may cost: a scan of a million files would hold up all else for minutes."""
    taken = list(itertools.islice(found, MAX_FILES))
    if next(found, None) is None:
        return taken, ""
    return taken, f"it holds more than {MAX_FILES} drops; those after them in order are not seen"


def _look_around(root: Path, folder: _Folder, first: Mapping[str, int]) -> Iterator[_Found]:
    def place(entry: str) -> tuple[int, str]:
        return first.get(entry.removesuffix(MODEL_SUFFIX), len(first)), entry

    for entry in sorted(folder.names, key=place):
        yield from _look(root, folder, entry)


def _look(root: Path, folder: _Folder, entry: str) -> Iterator[_Found]:
    """Yield what one entry of the drop folder holds."""
    if is_ignored(entry):
        return
    if entry.endswith(MODEL_SUFFIX):
        yield from _examine(root, entry.removesuffix(MODEL_SUFFIX), (folder,), entry)
    elif not entry.endswith(_BESIDE):
        path = root / entry
        if os.path.isdir(path):
            inner = _list_folder(path)
            for name in sorted(inner.names):
                if name.endswith(MODEL_SUFFIX) and not is_ignored(name):
                    yield from _examine(root, entry, (inner, folder), name)


def _list_folder(path: Path) -> _Folder:
    try:
        return _Folder.of(path, is_real=not path.is_symlink())
    except OSError:  # lost+found, or a folder that is being removed: it holds no drop for us
        return _Folder(path, frozenset())


def _examine(root: Path, name: str, folders: tuple[_Folder, ...], entry: str) -> Iterator[_Found]:
    """Yield the drop `entry` of the first folder, refused where it cannot be one.

    Its companions lie in the same folder, or in the drop folder under the model's name; nothing is
    yielded where it vanished.
    """
    holder, top = folders[0], folders[-1]
    path = holder.path / entry
    try:
        status = _status(path)
    except OSError:
        return
    try:
        real = _regular_inside(root, holder, entry, status)
        _check_name(name)
        stem = entry.removesuffix(MODEL_SUFFIX)
        beside = ((holder, stem + SIDECAR_SUFFIX), (top, name + SIDECAR_SUFFIX))
        sidecar = _companion(root, beside)
        signed = ((holder, entry + SIGNATURE_SUFFIX), (top, name + MODEL_SUFFIX + SIGNATURE_SUFFIX))
        signature = _companion(root, signed)
    except _RefusedError as refusal:
        fingerprint = Fingerprint(path, Stamp.of(status))
        yield _Found(
            Candidate(safe_name(name), path, None, None, fingerprint, refusal.reason, refusal.hint),
            ((path, fingerprint.model),),
            status.st_mtime_ns,
        )
        return
    parts = [(real, Stamp.of(status)), *(part for part in (sidecar, signature) if part)]
    fingerprint = Fingerprint(
        real, parts[0][1], sidecar[1] if sidecar else None, signature[1] if signature else None
    )
    candidate = Candidate(
        name,
        real,
        sidecar[0] if sidecar else None,
        signature[0] if signature else None,
        fingerprint,
    )
    yield _Found(candidate, tuple(parts), max(status.st_mtime_ns, status.st_ctime_ns))


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError:  # a link to nothing, or in circles
        return path.lstat()


def _regular_inside(root: Path, folder: _Folder, entry: str, status: os.stat_result) -> Path:
    """Return the path with its links resolved."""
    path = folder.path / entry
    # Resolving takes as long as all else that is done for a file, and few are links.
    real = path if folder.is_real and not path.is_symlink() else Path(os.path.realpath(path))
    if root not in real.parents:
        raise _RefusedError(
            f"{entry!r} links to {str(real)!r}, outside the drop folder",
            "Copy the file itself into the drop folder.",
        )
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise _RefusedError(
                f"{entry!r} is {kind}; a drop is a regular file",
                "Drop the .tflite file itself, or a folder NAME that holds it.",
            )
    return real


def _check_name(name: str) -> None:
    if not is_model_name(name):
        raise _RefusedError(
            f"the name {name!r} cannot be a model's; it has 1 to 128 of A-Z a-z 0-9 . _ - "
            "and does not start with a dot",
            "Rename the file.",
        )


def _companion(root: Path, places: tuple[tuple[_Folder, str], ...]) -> tuple[Path, Stamp] | None:
    """Return the first companion that is there, of folders and names; None where there is none."""
    for folder, entry in places:
        if entry not in folder.names:
            continue
        try:
            status = _status(folder.path / entry)
        except OSError:
            continue
        return _regular_inside(root, folder, entry, status), Stamp.of(status)
    return None
