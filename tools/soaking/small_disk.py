"""A folder -> a disk of its own that really fills up, seen by this process and its children only.

The mount lies in a name space of this process: whatever ends it, nothing is left behind. An
ordinary user needs user name spaces for it; without them there is no disk pressure.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000  # sched.h
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 1 << 14, 1 << 18  # mount.h
MNT_DETACH = 2
CHUNK = 1 << 16
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES = 16 << 20


def leave_mounts() -> str:
    """Give this process mounts of its own; return why it cannot have them, "" where it has.

    To be called while the process has one thread: before NumPy, which starts more, is imported.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)):
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    try:
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        return f"user name space: {error.strerror}"
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        return f"private mounts: {os.strerror(ctypes.get_errno())}"
    try:
        mount(SHARED_MEMORY, SHARED_MEMORY_BYTES)  # so that all that is left there is the soak's
    except OSError as error:
        return f"{SHARED_MEMORY}: {error.strerror}"
    return ""


def mount(folder: Path, size: int) -> None:
    """Mount a tmpfs over a folder.

    Raises:
        OSError: it cannot be mounted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size},mode=700".encode()
    if libc.mount(b"soak", bytes(folder), b"tmpfs", MS_NOSUID | MS_NODEV, options):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


class SmallDisk:
    """A tmpfs over a folder; `fill` leaves next to nothing of it.

    Raises:
        OSError: it cannot be mounted.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        mount(folder, size)

    @property
    def used_bytes(self) -> int:
        """What lies on it, but for the ballast."""
        found = os.statvfs(self.folder)
        held = self._ballast.stat().st_blocks * 512 if self._ballast.exists() else 0
        return (found.f_blocks - found.f_bfree) * found.f_frsize - held

    @property
    def is_filled(self) -> bool:
        """True between `fill` and `empty`."""
        return self._ballast.exists()

    def fill(self, leave: int) -> None:
        """Write until so many bytes are free."""
        with self._ballast.open("ab", buffering=0) as file:
            while (free := self._free()) > leave:
                try:
                    file.write(bytes(min(CHUNK, max(4096, free - leave))))
                except OSError:
                    return  # the daemon was quicker: it is full

    def unmount(self) -> None:
        """Take it away, even where something still holds it."""
        ctypes.CDLL(None).umount2(bytes(self.folder), MNT_DETACH)

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)

    def _free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize
