"""A registry whose disk takes no writes -> a copy in memory, which says what was committed last.

SQLite itself needs to write for reading: beside a file in WAL mode it makes an index of the log,
which a full or read-only disk refuses it. A copy is read elsewhere, log included.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from edgeq.files import REFUSALS, TEMPORARY_PREFIX, spare_folders

PROBE_BYTES = 64 << 10  # the index takes half of it


def refusal_of(folder: Path) -> OSError | None:
    """Return why a folder takes no writes now: a full or read-only disk, or one that fails.

    None where it takes them, and where it refuses for another reason, such as its owner's.
    """
    probe = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    try:
        try:
            with probe.open("xb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error if error.errno in REFUSALS else None
    return None


def copy_into_memory(path: Path) -> sqlite3.Connection:
    """Return what a registry file and its log hold, in a database that no disk is behind.

    Raises:
        OSError: the file cannot be read, or no folder of this box takes a copy for a moment.
    """
    refusal = OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for folder in spare_folders():
        try:
            with tempfile.TemporaryDirectory(prefix="edgeq-", dir=folder) as temporary:
                return _read(path, Path(temporary))
        except OSError as error:
            refusal = error
    raise refusal


def _read(path: Path, folder: Path) -> sqlite3.Connection:
    copy = folder / path.name
    shutil.copyfile(path, copy)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(path.with_name(f"{path.name}-wal"), folder / f"{path.name}-wal")
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.backup(memory)
    except BaseException:
        memory.close()
        raise
    return memory
