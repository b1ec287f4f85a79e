"""Bytes -> disk, so that a crash at any moment leaves either the old content or the new.

Everything edgeq writes goes through here: a temporary file in the same directory, fsync,
rename, fsync of the directory (litestream and SQLite do the same).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

COPY_CHUNK_BYTES = 1 << 20
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # the disk's, not a file's
TEMPORARY_PREFIX = ".tmp-"  # what a crash can leave behind; `sweep_temporaries` removes it


def fsync_directory(directory: Path) -> None:
    """Make renames and removals in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(directory: Path) -> None:
    """Make `directory` and its missing parents so that they outlive a power cut."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        fsync_directory(path.parent)


def _temporary_for(path: Path) -> Path:
    tail = path.name[-50:]  # a name of 255 bytes must leave room for what comes before it
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}-{tail}")


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends, and vanishes if it raises.

    Its mode is `mode` whatever the umask is; without one it is 0640 less the umask.
    """
    temporary = _temporary_for(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o640 if mode is None else mode)
    try:
        with os.fdopen(fd, "wb") as file:
            if mode is not None:
                os.fchmod(fd, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_directory(path.parent)


def write_atomic(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace the content of `path` by `data`, durably; `mode` as for `atomic_writer`."""
    with atomic_writer(path, mode=mode) as file:
        file.write(data)


def overwrite(path: Path, data: bytes) -> None:
    """Replace the content of `path` in place, durably; a file of another size is written anew.

    It takes no room that the file does not have, and so works on a full disk; but a power cut can
    leave a mixture, which the reader must notice.
    """
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size == len(data):
                os.pwrite(fd, data, 0)
                os.fsync(fd)
                return
        finally:
            os.close(fd)
    write_atomic(path, data)


def fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes whenever the file at `path` does, from one stat; () for no file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_readable_by_all(path: Path) -> bool:
    """True where any user of this box may read the file; False where it is not there."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def rights_of_all(path: Path) -> str:
    """Return which of 'rwx' any user of this box has on a path; "" where it is not there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return stat.filemode(mode)[7:].translate({ord("t"): "x", ord("T"): "", ord("-"): ""})


def sha256_bytes(data: bytes) -> str:
    """Return the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(COPY_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def copy_durably(source: BinaryIO, target: Path, *, max_bytes: int) -> tuple[str, int] | None:
    """Copy an open file to `target`; return its digest and size, or None if over `max_bytes`."""
    digest, size = hashlib.sha256(), 0
    with contextlib.suppress(_TooLargeError), atomic_writer(target) as file:
        while chunk := source.read(COPY_CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise _TooLargeError
            digest.update(chunk)
            file.write(chunk)
    return None if size > max_bytes else (digest.hexdigest(), size)


class _TooLargeError(Exception):
    pass


def publish_directory(source: Path, target: Path) -> None:
    """Rename the finished directory `source` to `target` after making its content durable."""
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    fsync_directory(source)
    os.rename(source, target)
    fsync_directory(target.parent)


def spare_folders() -> Iterator[str]:
    """Yield where something may lie while its own disk takes no writes.

    The service's runtime folder, the one in memory, that of temporary files.
    """
    yield from filter(None, os.environ.get("RUNTIME_DIRECTORY", "").split(":"))
    yield "/dev/shm"
    with contextlib.suppress(FileNotFoundError):  # nowhere on this box
        yield tempfile.gettempdir()


def temporary_directory(parent: Path) -> Path:
    """Return the path of a directory in `parent`, not made yet, as `make_temporary_directory`."""
    return parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"


def make_temporary_directory(parent: Path) -> Path:
    """Make an empty directory in `parent` that `sweep_temporaries` would remove after a crash."""
    directory = temporary_directory(parent)
    directory.mkdir(parents=True)
    return directory


def remove_tree(path: Path) -> None:
    """Remove a directory that readers may look at: first out of the way, then for good."""
    if not path.exists():
        return
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep_temporaries(directory: Path) -> int:
    """Remove what a crash left half-written anywhere below `directory`; return how many.

    For the directory's owner at its start: whoever writes there meanwhile would lose its file.
    What the disk does not let go stays for the next start.
    """
    swept = 0
    for path in sorted(directory.rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        swept += not path.exists()
    return swept
