"""The registry of any older edgeq -> today's schema: its steps, and the copy taken before them.

SQLite's `user_version` is the number of steps a file has been through. A step is one transaction
and is never changed once it was released: files that went through it are in the field.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from edgeq import files

# Named as Mender's and RAUC's: install, verify, commit, roll back.
STATES = ("installed", "verified", "committed", "rolled_back", "rejected", "retired")
FIRST = (
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
)
# IF NOT EXISTS: for a while these tables were added to files that stayed at 1.
NOTES = (
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
STEPS: tuple[tuple[str, ...], ...] = (FIRST, NOTES)  # the step at position n leads from n to n + 1
SCHEMA_VERSION = len(STEPS)


def schema_of(connection: sqlite3.Connection) -> int:
    """Return how many steps a file has been through; 0 for an empty one."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def take_step(connection: sqlite3.Connection) -> None:
    """Take a file one step on, inside the caller's transaction; nothing where it is at the end."""
    found = schema_of(connection)
    if found < SCHEMA_VERSION:
        for statement in STEPS[found]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {found + 1}")


def backup_path(path: Path, schema: int) -> Path:
    """Return where a file is copied to before it leaves a schema."""
    return path.with_name(f"{path.name}.schema-{schema}")


def back_up(connection: sqlite3.Connection, path: Path) -> Path:
    """Copy the open file at `path`, durably and readable by its owner alone; return the copy.

    The copy is whole or not there. One of an earlier try is replaced.
    """
    target = backup_path(path, schema_of(connection))
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(part)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    files.fsync_directory(target.parent)
    return target
