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
from edgeq.errors import DamagedRegistryError, RegistryError

SCHEMA_VERSION = 1  # in SQLite's user_version
BUSY_TIMEOUT_S = 5.0  # for another process that looks into the file meanwhile

# Named as Mender's and RAUC's: install, verify, commit, roll back.
STATES = ("installed", "verified", "committed", "rolled_back", "rejected", "retired")
SCHEMA = (
    """CREATE TABLE models (
        name TEXT PRIMARY KEY,
        newest INTEGER NOT NULL DEFAULT 0,  -- a number is never given twice
        live INTEGER,
        is_pinned INTEGER NOT NULL DEFAULT 0,
        FOREIGN KEY (name, live) REFERENCES versions (name, version)
    )""",
    f"""CREATE TABLE versions (
        name TEXT NOT NULL REFERENCES models (name),
        version INTEGER NOT NULL,
        model_sha256 TEXT NOT NULL,
        engine TEXT NOT NULL,
        method TEXT NOT NULL,
        directory TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN {STATES}),
        reason TEXT NOT NULL,
        created REAL NOT NULL,
        served INTEGER NOT NULL DEFAULT 0,  -- grows with every commit: the order of going live
        PRIMARY KEY (name, version)
    )""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        name TEXT NOT NULL,
        version INTEGER,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        fields TEXT NOT NULL
    )""",
    """CREATE TABLE drops (
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'quarantined')),
        PRIMARY KEY (name, sha256)
    )""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# Added since; an edgeq that does not know a table leaves it alone, so the version stays.
ADDED = (
    """CREATE TABLE IF NOT EXISTS probations (
        name TEXT PRIMARY KEY REFERENCES models (name),
        version INTEGER NOT NULL,
        note TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS drifts (
        name TEXT PRIMARY KEY,
        note TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS signed (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    )""",
)


class Database:
    """The file, opened; made where it is missing. Safe to share between threads.

    Raises:
        DamagedRegistryError: the file is not a whole database; see `move_aside`.
        RegistryError: it cannot be opened, or a newer edgeq wrote it.
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
        except RegistryError:
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
        with self.transaction() as connection:
            found: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise RegistryError(
                    f"registry {self._path} has schema {found}; this edgeq knows {SCHEMA_VERSION}",
                    hint="Update edgeq, or give it another state_dir.",
                )
            for statement in (*(SCHEMA if found == 0 else ()), *ADDED):
                connection.execute(statement)

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
