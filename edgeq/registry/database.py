"""The registry's SQLite file: opened, checked, and used by one transaction at a time.

WAL with `synchronous = FULL`: what has been committed is there after a power cut, and a crash at
any other moment leaves the transaction before it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeq import files
from edgeq.errors import DamagedRegistryError, NewerStateError, RegistryError
from edgeq.registry.migrations import (
    SCHEMA_VERSION,
    back_up,
    backup_path,
    schema_of,
    take_step,
)
from edgeq.registry.spare import copy_into_memory, refusal_of

BUSY_TIMEOUT_S = 5.0  # for another process that looks into the file meanwhile
REOPEN_S = 5.0  # between two attempts at a disk that takes no writes


class Database:
    """The file, opened; made where it is missing, taken to today's schema where it is older.

    Safe to share between threads. Before its schema changes the file is copied, to
    `<path>.schema-<number>`; a change that fails midway has not happened.

    Where the disk is full, read-only or failing, what it holds is read into memory: that can be
    read, and what is written is refused until the disk takes writes again.

    Args:
        path: of the file.
        clock: seconds of a clock that does not jump.

    Raises:
        DamagedRegistryError: the file is not a whole database; see `move_aside`.
        NewerStateError: a newer edgeq wrote it.
        RegistryError: it cannot be opened, or copied before its schema changes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._refusal: OSError | None = None  # why the connection is to a copy in memory
        self._next_attempt = 0.0
        try:
            self._connection = self._open()
        except (DamagedRegistryError, NewerStateError):
            raise
        except RegistryError:
            refusal = refusal_of(path.parent) if path.exists() else None
            if refusal is None:
                raise
            self._connection = self._copy(refusal)

    @property
    def refusal(self) -> OSError | None:
        """Why nothing can be written since the start, None where it can."""
        return self._refusal

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; all that is done with it happens when the block ends, or nothing.

        Raises:
            RegistryError: SQLite failed, e.g. on a full disk; nothing has changed.
        """
        if self._refusal is not None:
            self._open_again()
        with self._between("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for reading; writers do not wait for it."""
        with self._between("BEGIN DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def _between(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors(), _whole(self._connection, begin) as connection:
            yield connection

    def _open(self) -> sqlite3.Connection:
        with self._errors():
            files.make_directory(self._path.parent)
            if self._path.exists():  # SQLite would open it for reading only, and stay with that
                os.close(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _copy(self, refusal: OSError) -> sqlite3.Connection:
        self._refusal, self._next_attempt = refusal, self._clock() + REOPEN_S
        with self._errors():
            connection = copy_into_memory(self._path)
            self._prepare(connection)
        return connection

    def _open_again(self) -> None:
        """Go on with the file, where its disk takes writes again; the copy is as it was."""
        with self._lock:
            if self._refusal is None:
                return
            if self._clock() >= self._next_attempt:
                self._next_attempt = self._clock() + REOPEN_S
                refusal = refusal_of(self._path.parent)
                if refusal is None:
                    copy, self._connection = self._connection, self._open()
                    copy.close()
                self._refusal = refusal
            if self._refusal is not None:
                raise RegistryError(
                    f"registry {self._path} cannot be written: {self._refusal.strerror}",
                    hint="See that its disk is not full, and not read-only.",
                ) from self._refusal

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        report = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if report != "ok":
            raise sqlite3.DatabaseError(report)
        found = schema_of(connection)
        if found > SCHEMA_VERSION:
            raise self._newer(found)
        if 0 < found < SCHEMA_VERSION and self._refusal is None:
            back_up(connection, self._path)
        for _ in range(found, SCHEMA_VERSION):
            with _whole(connection, "BEGIN IMMEDIATE"):
                take_step(connection)

    def _newer(self, found: int) -> NewerStateError:
        kept = backup_path(self._path, SCHEMA_VERSION)
        back = f"or stop edgeq and put {kept.name} in its place" if kept.exists() else ""
        return NewerStateError(
            f"registry {self._path} has schema {found}: a newer edgeq wrote it; "
            f"this one knows schemas up to {SCHEMA_VERSION}",
            hint=f"Update edgeq; {back or 'or give it another state_dir'}.",
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # SQLITE_CORRUPT and SQLITE_NOTADB are the ones that have no class of their own.
            if type(error) is sqlite3.DatabaseError:
                raise DamagedRegistryError(
                    f"registry {self._path} is damaged: {error}",
                    hint="Move the file aside, with its -wal and -shm, and start edgeq again.",
                ) from error
            raise RegistryError(
                f"registry {self._path} cannot be used: {error}",
                hint="See that its folder is writable and its disk not full.",
            ) from error


@contextlib.contextmanager
def _whole(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    connection.execute(begin)
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def move_aside(path: Path) -> Path:
    """Rename a damaged file and its log to `<path>.damaged-<time>`; return where it is now."""
    stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(2).hex()}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):  # never a log beside a file that it does not belong to
        part = path.with_name(path.name + suffix)
        if part.exists():
            os.rename(part, aside.with_name(aside.name + suffix))
    files.fsync_directory(path.parent)
    return aside
