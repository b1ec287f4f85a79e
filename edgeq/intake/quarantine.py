"""Refused drops -> a bounded folder of them, each with its reason; and the status beside a drop."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import files
from edgeq.errors import DropError, NotFoundError
from edgeq.intake.names import MODEL_SUFFIX, STATUS_SUFFIX, safe_name

REASON = "reason.json"
DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class Entry:
    """One refused drop."""

    id: str
    name: str
    stage: str
    error: str
    hint: str
    time: float  # seconds since the epoch
    sha256: str  # "" where the file could not be read
    bytes: int
    file: str  # the path of the kept file, "" where there is none
    order: int = 0  # grows with each entry, which the clock need not do; 0: of an older edgeq


class Quarantine:
    """The folder of refused drops: the newest `maximum`, in at most `max_bytes`.

    Args:
        directory: made where it is missing; what a crash left half-written is removed.
        maximum: how many are kept.
        max_bytes: of all kept files together; one over it is recorded without its file.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        directory: Path,
        *,
        maximum: int = 50,
        max_bytes: int = 2 << 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self._maximum = maximum
        self._max_bytes = max_bytes
        self._clock = clock
        self._turn = threading.Lock()  # drops, loads and probations end on threads of their own
        with contextlib.suppress(OSError):  # made once more with the first drop
            files.make_directory(directory)
        files.sweep_temporaries(directory)

    def put(
        self, name: str, sha256: str, source: Path | None, stage: str, error: str, hint: str
    ) -> Entry:
        """Record a refused drop and keep a copy of its file; the same one twice is one entry.

        Args:
            name: the model's name.
            sha256: of the refused bytes, "" where they are not known.
            source: the file; what is not a regular file with these bytes is not kept.
            stage: the check that refused it.
            error: why.
            hint: what to do about it.
        """
        reason = {"stage": stage, "error": error, "hint": hint, "time": self._clock()}
        try:
            with self._turn:
                reason["order"] = max((entry.order for entry in self.entries()), default=0) + 1
                return self._put(safe_name(name), sha256, source, reason)
        except OSError as failure:
            raise DropError(
                f"the drop {name!r} was refused ({error}), but could not be put into quarantine: "
                f"{failure.strerror}",
                stage="quarantine",
                hint="Free space, or make the state folder writable.",
            ) from failure

    def _put(self, name: str, sha256: str, source: Path | None, reason: dict[str, Any]) -> Entry:
        temporary = files.make_temporary_directory(self.directory)
        try:
            identity = self._fill(temporary, name, sha256, source, reason)
            self._publish(temporary, self.directory / identity)
        finally:
            files.remove_tree(temporary)
        self._trim()
        return self.get(identity)

    def _fill(
        self, folder: Path, name: str, sha256: str, source: Path | None, reason: dict[str, Any]
    ) -> str:
        """Write an entry's folder; return its id."""
        copied = self._keep(source, folder / f"{name}{MODEL_SUFFIX}", sha256)
        digest = sha256 or (copied[0] if copied else "")
        said = f"{reason['stage']}: {reason['error']}".encode("utf-8", "replace")
        fallback = files.sha256_bytes(said)  # of a file that cannot be read
        size = copied[1] if copied else 0
        content = {**reason, "name": name, "sha256": digest, "bytes": size}
        files.write_atomic(folder / REASON, _json(content))
        return f"{name}-{(digest or fallback)[:DIGEST_CHARACTERS]}"

    def _keep(self, source: Path | None, target: Path, sha256: str) -> tuple[str, int] | None:
        """Copy the refused file; None where it is gone, too large or another one by now."""
        if source is None:
            return None
        copied = None
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(source, flags), "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    copied = files.copy_durably(file, target, max_bytes=self._max_bytes)
        except OSError as error:
            if error.errno in files.REFUSALS:  # the disk's: with the next attempt, perhaps
                raise
        if copied is not None and sha256 and copied[0] != sha256:
            target.unlink()
            return None
        return copied

    def _publish(self, temporary: Path, target: Path) -> None:
        """Replace what is there, unless only that still has the file."""
        known, new = self._read(target), list(temporary.glob(f"*{MODEL_SUFFIX}"))
        if known is not None and known.file and not new:
            return
        files.remove_tree(target)
        files.publish_directory(temporary, target)

    def entries(self) -> list[Entry]:
        """Return what is kept, newest first."""
        found = [self._read(path) for path in self.directory.glob("*")]
        kept = [entry for entry in found if entry is not None]
        return sorted(kept, key=lambda e: (-e.order, -e.time, e.id))

    def _read(self, path: Path) -> Entry | None:
        """Return an entry; None for a folder that is none, or is being removed."""
        if path.name.startswith("."):
            return None
        try:
            reason = json.loads((path / REASON).read_bytes())
            file = path / f"{reason['name']}{MODEL_SUFFIX}"
            return Entry(
                id=path.name,
                name=str(reason["name"]),
                stage=str(reason["stage"]),
                error=str(reason["error"]),
                hint=str(reason["hint"]),
                time=float(reason["time"]),
                sha256=str(reason["sha256"]),
                bytes=int(reason["bytes"]),
                file=str(file) if file.is_file() else "",
                order=int(reason.get("order", 0)),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def get(self, id: str) -> Entry:
        """Return one entry.

        Raises:
            NotFoundError: there is none of this id.
        """
        for entry in self.entries():
            if entry.id == id:
                return entry
        raise NotFoundError(
            f"there is no {id!r} in quarantine", hint="Run `edgeq quarantine list` for the ids."
        )

    def remove(self, id: str) -> None:
        """Remove one entry with its file; errors as `get`."""
        files.remove_tree(self.directory / self.get(id).id)

    def _trim(self) -> None:
        """Remove the oldest beyond the bounds; the newest always stays."""
        total = 0
        for position, entry in enumerate(self.entries()):
            total += entry.bytes
            if position and (position >= self._maximum or total > self._max_bytes):
                files.remove_tree(self.directory / entry.id)


def write_status(
    models_dir: Path, name: str, state: str, version: str, reason: str, hint: str
) -> bool:
    """Write NAME.status.json beside the drop; False where the folder cannot be written."""
    status = {
        "state": state,
        "version": version,
        "reason": reason,
        "hint": hint,
        "time": time.time(),
    }
    try:
        files.write_atomic(models_dir / f"{name}{STATUS_SUFFIX}", _json(status), mode=0o644)
    except OSError:  # a read-only medium is a fine drop folder
        return False
    return True


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
