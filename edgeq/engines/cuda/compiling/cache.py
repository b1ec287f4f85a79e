"""Cubins by the content they were compiled from -> disk, for all processes of this box together."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq import files
from edgeq.engines.cuda.compiling.nvrtc import Version

MAX_BYTES = 256 << 20  # some 10,000 kernels; a net has 30 to 100
_MAGIC = b"EQCUBIN1"  # what a change of the entries' layout must change
_DIGEST_BYTES = 32
_SUFFIX = ".cubin"
_ABANDONED_S = 3600.0  # a temporary file that old belongs to no one


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return where cubins are kept: the service's cache folder, or the user's."""
    if given := environment.get("CACHE_DIRECTORY"):  # systemd; a list, colons between
        return Path(given.split(":")[0]) / "kernels"
    home = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/")) / ".cache")
    return Path(home) / "edgeq" / "kernels"


def cubin_key(source: str, options: Sequence[str], arch: str, version: Version) -> str:
    """Return the digest of all that a cubin depends on."""
    digest = hashlib.sha256(_MAGIC)
    for part in (f"{version[0]}.{version[1]}", arch, *options, source):
        content = part.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


@dataclass(frozen=True)
class CubinCache:
    """A folder of cubins, the least recently used of them leaving first.

    Nothing here raises for what the disk does: a cache that cannot be read is empty, and one that
    cannot be written says why.
    """

    folder: Path
    max_bytes: int = MAX_BYTES

    def load(self, key: str) -> bytes | None:
        """Return the cubin stored under `key`, or None where there is none, or a damaged one."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head, image = content[: len(_MAGIC) + _DIGEST_BYTES], content[len(_MAGIC) + _DIGEST_BYTES :]
        if head != _MAGIC + hashlib.sha256(image).digest():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of its last use; access times are switched off on most boxes
        return image

    def store(self, key: str, image: bytes) -> str:
        """Keep a cubin; return "", or why it could not be kept."""
        try:
            files.make_directory(self.folder)
            content = _MAGIC + hashlib.sha256(image).digest() + image
            files.write_atomic(self._path(key), content)
        except OSError as error:
            return f"kernels are not kept in {self.folder}: {error.strerror or error}"
        return ""

    def trim(self) -> int:
        """Remove the least recently used entries beyond `max_bytes`; return how many went.

        Others may use the folder meanwhile: what they removed first is no error.
        """
        now = time.time()
        self._remove_abandoned(now)
        kept = f"[!{files.TEMPORARY_PREFIX[0]}]*{_SUFFIX}"  # not what another process is writing
        entries = sorted(_stat(self.folder, kept), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in entries) - self.max_bytes
        removed = 0
        for entry in entries:
            if excess <= 0:
                break
            excess -= entry.size
            removed += _remove(entry.path)
        return removed

    def _remove_abandoned(self, now: float) -> None:
        for entry in _stat(self.folder, f"{files.TEMPORARY_PREFIX}*"):
            if now - entry.used > _ABANDONED_S:
                _remove(entry.path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float  # seconds since the epoch


def _stat(folder: Path, pattern: str) -> list[_Entry]:
    entries = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            status = path.stat()
            entries.append(_Entry(path, status.st_size, status.st_mtime))
    return entries


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
