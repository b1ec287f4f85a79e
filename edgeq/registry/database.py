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
from collections.abc import Iterator
from pathlib import Path

from edgeq import files
from edgeq.errors import DamagedRegistryError, EdgeqError, NewerStateError, RegistryError
from edgeq.registry.migrations import (
    SCHEMA_VERSION,
    back_up,
    backup_path,
    schema_of,
    take_step,
)

BUSY_TIMEOUT_S = 5.0  # for another process that looks into the file meanwhile


class Database:
    """The file, opened; made where it is missing, taken to today's schema where it is older.

    Safe to share between threads. Before its schema changes the file is copied, to
    `<path>.schema-<number>`; a change that fails midway has not happened.

    Raises:
        DamagedRegistryError: the file is not a whole database; see `move_aside`.
        NewerStateError: a newer edgeq wrote it.
        RegistryError: it cannot be opened, or copied before its schema changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._errors():
            files.make_directory(path.parent)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except EdgeqError:
            self._connection.close()
            raise

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
        with self._between("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for reading; writers do not wait for it."""
        with self._between("BEGIN DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def _between(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        with self._errors():
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            report = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if report != "ok":
                raise sqlite3.DatabaseError(report)
        with self.snapshot() as connection:
            found = schema_of(connection)
        if found > SCHEMA_VERSION:
            raise self._newer(found)
        if 0 < found < SCHEMA_VERSION:
            with self._lock, self._errors():
                back_up(self._connection, self._path)
        for _ in range(found, SCHEMA_VERSION):
            with self.transaction() as connection:
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
