"""Which versions there are, which one is live, and what happened.

Every public method is one durable transaction. The live version is always one that exists, and
the only committed one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from edgeq.errors import RegistryError, VersionError
from edgeq.registry.database import Database, move_aside
from edgeq.registry.migrations import STATES
from edgeq.registry.records import Event, SignedRelease, Version

MAX_EVENTS = 10_000
MAX_REFUSALS = 1000  # among them: whoever may only drop files must not push out all others
MAX_DROPS = 10_000  # remembered under names that no model has
COMMITTABLE = ("installed", "verified", "retired", "committed")
SETTABLE = tuple(state for state in STATES if state != "committed")
WERE_LIVE = "served > 0 AND state IN ('retired', 'rolled_back')"

FORGET_REFUSALS = """DELETE FROM events WHERE kind = 'quarantined' AND id <= (SELECT id FROM events
    WHERE kind = 'quarantined' ORDER BY id DESC LIMIT 1 OFFSET ?)"""
FORGET_DROPS = """DELETE FROM drops WHERE rowid <= (SELECT MAX(rowid) FROM drops) - ?
    AND name NOT IN (SELECT name FROM models)"""
COLUMNS = "name, version, model_sha256, engine, method, directory, state, reason, created"


class Registry:
    """The registry file, opened; made where it is missing. Safe to share between threads.

    Raises:
        DamagedRegistryError: the file is not a whole database; see `Registry.recreate`.
        NewerStateError: a newer edgeq wrote it.
        RegistryError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    @classmethod
    def recreate(cls, path: Path) -> Registry:
        """Move a damaged file aside, to `<path>.damaged-<time>`, and start a new one.

        The versions' bundles stay on disk, but nothing is live until they are added again.
        """
        move_aside(path)
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def refusal(self) -> OSError | None:
        """Why nothing could be written since the start, None where it can be."""
        return self._database.refusal

    # Versions.

    def add_version(
        self, name: str, *, model_sha256: str, engine: str, method: str, directory: str = ""
    ) -> int:
        """Add an installed version and return its number; `directory` defaults to NAME/NUMBER."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO models (name) VALUES (?)", (name,))
            connection.execute("UPDATE models SET newest = newest + 1 WHERE name = ?", (name,))
            number: int = connection.execute(
                "SELECT newest FROM models WHERE name = ?", (name,)
            ).fetchone()[0]
            connection.execute(
                f"INSERT INTO versions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 'installed', '', ?)",
                (
                    name,
                    number,
                    model_sha256,
                    engine,
                    method,
                    directory or f"{name}/{number}",
                    time.time(),
                ),
            )
        return number

    def remove_version(self, name: str, version: int) -> None:
        """Forget a version, before its bundle is deleted; the live one is refused."""
        with self._database.transaction() as connection:
            _refuse_live(connection, name, version, "cannot be removed")
            connection.execute(
                "DELETE FROM versions WHERE name = ? AND version = ?", (name, version)
            )

    def set_state(self, name: str, version: int, state: str, reason: str = "") -> None:
        """Set the state of a version that is not live; 'committed' is set by `commit` alone."""
        if state not in SETTABLE:
            raise RegistryError(f"state {state!r} cannot be set; expected one of {SETTABLE}")
        with self._database.transaction() as connection:
            _refuse_live(connection, name, version, f"cannot become {state}")
            _set_state(connection, name, version, state, reason)

    def commit(self, name: str, version: int) -> None:
        """Make a version the live one; the one before it is retired and can be rolled back to.

        Raises:
            RegistryError: there is no such version, or it has failed before.
        """
        with self._database.transaction() as connection:
            found = _version(connection, name, version)
            if found.state not in COMMITTABLE:
                raise RegistryError(
                    f"version {version} of {name!r} is {found.state} ({found.reason}); "
                    f"only {', '.join(COMMITTABLE)} ones can be committed"
                )
            _go_live(connection, name, version, "retired", "")

    def rollback(self, name: str, reason: str, to: int | None = None) -> Version:
        """Make the version before the live one, or `to`, live again; what was live has failed.

        Raises:
            VersionError: there is nothing to roll back to.
        """
        with self._database.transaction() as connection:
            found = _rollback_target(connection, name, to)
            _go_live(connection, name, found.version, "rolled_back", reason)
            return _version(connection, name, found.version)

    def remove_live(self, name: str) -> None:
        """Let nothing be live; the version that was is retired."""
        with self._database.transaction() as connection:
            _go_live(connection, name, None, "retired", "")

    def live(self, name: str) -> Version | None:
        """Return the live version, or None."""
        with self._database.snapshot() as connection:
            return _live(connection, name)

    def previous(self, name: str) -> Version | None:
        """Return what was live before and has not failed, or None."""
        with self._database.snapshot() as connection:
            return _previous(connection, name)

    def rollback_target(self, name: str, to: int | None = None) -> Version:
        """Return what `rollback` would make live, so that its engine can be loaded first.

        Raises:
            VersionError: there is nothing to roll back to.
        """
        with self._database.snapshot() as connection:
            return _rollback_target(connection, name, to)

    def version(self, name: str, version: int) -> Version:
        """Return one version.

        Raises:
            VersionError: there is none.
        """
        with self._database.snapshot() as connection:
            return _version(connection, name, version)

    def versions(self, name: str) -> list[Version]:
        """Return all versions, newest first."""
        with self._database.snapshot() as connection:
            return _versions(connection, "name = ? ORDER BY version DESC", name)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        with self._database.snapshot() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM models ORDER BY name")]

    def pin(self, name: str) -> None:
        """Keep the live version whatever is dropped; the mark only, the daemon obeys it."""
        self._set_pinned(name, True)

    def unpin(self, name: str) -> None:
        """Undo `pin`."""
        self._set_pinned(name, False)

    def is_pinned(self, name: str) -> bool:
        """Say whether the model is pinned."""
        with self._database.snapshot() as connection:
            row = connection.execute(
                "SELECT is_pinned FROM models WHERE name = ?", (name,)
            ).fetchone()
        return bool(row and row[0])

    # Probation: a breadcrumb, so that the watch over a version outlives the daemon.

    def note_probation(self, name: str, version: int, **note: Any) -> None:
        """Remember, before it is committed, that a version is watched, and what with."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO probations VALUES (?, ?, ?)",
                (name, version, json.dumps(note)),
            )

    def probation(self, name: str) -> dict[str, Any] | None:
        """Return the note on the live version, None where it is not watched."""
        with self._database.snapshot() as connection:
            row = connection.execute(
                "SELECT note FROM probations NATURAL JOIN"
                " (SELECT name, live AS version FROM models) WHERE name = ?",
                (name,),
            ).fetchone()
        return json.loads(row[0]) if row else None

    def end_probation(self, name: str) -> None:
        """Forget the note: the version has proven itself, or is gone."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM probations WHERE name = ?", (name,))

    # Drift: when a model was recalibrated, so that a restart does not start the count anew.

    def note_drift(self, name: str, **note: Any) -> None:
        """Remember what a model's drift led to, in place of what was remembered."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO drifts VALUES (?, ?)", (name, json.dumps(note))
            )

    def drift_note(self, name: str) -> dict[str, Any] | None:
        """Return what was remembered of a model's drift, None where there was none."""
        with self._database.snapshot() as connection:
            row = connection.execute("SELECT note FROM drifts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    # Events and drops.

    def record(
        self,
        name: str,
        kind: str,
        message: str,
        version: int | None = None,
        at: float | None = None,
        **fields: Any,
    ) -> None:
        """Add an event of now, or of `at`, and forget those before the newest 10,000."""
        text = json.dumps(fields, default=str)
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO events (time, name, version, kind, message, fields)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (time.time() if at is None else at, name, version, kind, message, text),
            )
            newest = cursor.lastrowid or 0
            connection.execute("DELETE FROM events WHERE id <= ?", (newest - MAX_EVENTS,))
            if kind == "quarantined":
                connection.execute(FORGET_REFUSALS, (MAX_REFUSALS,))

    def events(self, limit: int = 100, name: str | None = None) -> list[Event]:
        """Return the newest events, of one model or of all, newest first."""
        with self._database.snapshot() as connection:
            rows = connection.execute(
                "SELECT time, name, version, kind, message, fields FROM events"
                " WHERE name = COALESCE(?, name) ORDER BY id DESC LIMIT ?",
                (name, limit),
            ).fetchall()
        return [
            Event(at, model, version, kind, message, json.loads(fields))
            for at, model, version, kind, message, fields in rows
        ]

    def drop_seen(self, name: str, sha256: str, outcome: str) -> None:
        """Remember what became of a dropped file: 'accepted' or 'quarantined'."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO drops VALUES (?, ?, ?)", (name, sha256, outcome)
            )
            connection.execute(FORGET_DROPS, (MAX_DROPS,))

    def drop_outcome(self, name: str, sha256: str) -> str | None:
        """Return what became of these bytes under this name, or None where they are new."""
        with self._database.snapshot() as connection:
            row = connection.execute(
                "SELECT outcome FROM drops WHERE name = ? AND sha256 = ?", (name, sha256)
            ).fetchone()
        return row[0] if row else None

    def forget_drop(self, name: str, sha256: str) -> None:
        """Let the same bytes be tried again."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM drops WHERE name = ? AND sha256 = ?", (name, sha256))

    def newest_signed(self, name: str) -> SignedRelease | None:
        """Return the newest release of a model that was accepted for its signature, or None."""
        with self._database.snapshot() as connection:
            row = connection.execute(
                "SELECT version, sha256 FROM signed WHERE name = ?", (name,)
            ).fetchone()
        return SignedRelease(*row) if row else None

    def note_signed(self, name: str, version: int, sha256: str) -> None:
        """Remember that a release was accepted; none that is older will be."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO signed VALUES (?, ?, ?)", (name, version, sha256)
            )

    def _set_pinned(self, name: str, is_pinned: bool) -> None:
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE models SET is_pinned = ? WHERE name = ?", (is_pinned, name)
            )
            if not cursor.rowcount:
                raise RegistryError(
                    f"there is no model {name!r}", hint="See `edgeq status` for the models."
                )


def _go_live(
    connection: sqlite3.Connection, name: str, version: int | None, old_state: str, reason: str
) -> None:
    old = _live(connection, name)
    if old and old.version == version:
        return
    connection.execute("UPDATE models SET live = ? WHERE name = ?", (version, name))
    if old:
        _set_state(connection, name, old.version, old_state, reason)
    if version is not None:
        _set_state(connection, name, version, "committed", "")
        connection.execute(
            "UPDATE versions SET served = 1 + (SELECT MAX(served) FROM versions WHERE name = ?)"
            " WHERE name = ? AND version = ?",
            (name, name, version),
        )


def _set_state(
    connection: sqlite3.Connection, name: str, version: int, state: str, reason: str
) -> None:
    connection.execute(
        "UPDATE versions SET state = ?, reason = ? WHERE name = ? AND version = ?",
        (state, reason, name, version),
    )


def _refuse_live(connection: sqlite3.Connection, name: str, version: int, what: str) -> None:
    if _version(connection, name, version).state == "committed":
        raise RegistryError(
            f"version {version} of {name!r} is live and {what}",
            hint=f"Roll back first: edgeq rollback {name}.",
        )


def _live(connection: sqlite3.Connection, name: str) -> Version | None:
    found = _versions(
        connection, "(name, version) = (SELECT name, live FROM models WHERE name = ?)", name
    )
    return found[0] if found else None


def _previous(connection: sqlite3.Connection, name: str) -> Version | None:
    """Return what was live last and has not failed."""
    found = _versions(
        connection,
        "name = ? AND state = 'retired' AND served > 0 ORDER BY served DESC LIMIT 1",
        name,
    )
    return found[0] if found else None


def _rollback_target(connection: sqlite3.Connection, name: str, to: int | None) -> Version:
    if to is None:
        found = _previous(connection, name)
        if found is None:
            raise VersionError(
                f"model {name!r} has no earlier version to roll back to",
                hint="See `edgeq history` for its versions; name one with --to.",
            )
        return found
    found = _version(connection, name, to)
    if not _versions(connection, f"name = ? AND version = ? AND {WERE_LIVE}", name, to):
        raise VersionError(
            f"version {to} of {name!r} is {found.state}; expected one that was live before",
            hint="See `edgeq history` for versions that are retired or rolled_back.",
        )
    return found


def _version(connection: sqlite3.Connection, name: str, version: int) -> Version:
    found = _versions(connection, "name = ? AND version = ?", name, version)
    if not found:
        numbers = [v.version for v in _versions(connection, "name = ? ORDER BY version", name)]
        raise VersionError(
            f"model {name!r} has no version {version}; it has {numbers}",
            hint="See `edgeq history` for the versions there are.",
        )
    return found[0]


def _versions(connection: sqlite3.Connection, where: str, *arguments: object) -> list[Version]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM versions WHERE {where}", arguments)
    return [Version(*row) for row in rows]
