"""A registry that any older edgeq wrote opens in this one, whole, or stays what it was."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.errors import EdgeqError, NewerStateError, RegistryError, UsageError
from edgeq.registry import Registry, SignedRelease, migrations
from edgeq.registry.database import Database
from edgeq.registry.migrations import FIRST, NOTES, SCHEMA_VERSION, backup_path, schema_of

DUMPS = Path(__file__).parents[1] / "data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a registry that the first edgeq left."""
    path = tmp_path / "edgeq.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((DUMPS / "registry_1.sql").read_text())
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection


def schema(path: Path) -> int:
    with opened(path) as connection:
        return schema_of(connection)


def dump(path: Path) -> list[str]:
    with opened(path) as connection:
        return list(connection.iterdump())


def tables(path: Path) -> dict[str, str]:
    """Return the statement that made each table, without its white space."""
    with opened(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        return {name: " ".join(sql.split()) for name, sql in rows}


def test_what_the_first_edgeq_committed_is_live_in_this_one(path: Path) -> None:
    registry = Registry(path)
    live, previous = registry.live("digits"), registry.previous("digits")
    assert live is not None
    assert previous is not None
    assert (live.version, live.engine, live.method) == (2, "cpu-int8", "entropy")
    assert (previous.version, previous.engine) == (1, "float")
    assert registry.drop_outcome("digits", live.model_sha256) == "accepted"
    assert [event.kind for event in registry.events()] == ["committed", "committed", "accepted"]
    registry.close()
    assert schema(path) == SCHEMA_VERSION


def test_all_of_today_can_be_written_to_it(path: Path) -> None:
    registry = Registry(path)
    registry.note_signed("digits", 7, "ab")
    registry.note_drift("digits", since=1.5)
    assert registry.newest_signed("digits") == SignedRelease(7, "ab")
    assert registry.drift_note("digits") == {"since": 1.5}
    assert registry.rollback("digits", "worse").version == 1
    registry.close()


def test_it_ends_with_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    for each in (path, tmp_path / "new.db"):
        Registry(each).close()
    assert tables(path) == tables(tmp_path / "new.db")


@pytest.mark.parametrize("count", range(len(NOTES) + 1))
def test_tables_that_were_added_before_they_had_a_number_stay_with_what_is_in_them(
    path: Path, count: int
) -> None:
    with opened(path) as connection:
        for statement in NOTES[len(NOTES) - count :]:
            connection.execute(statement)
        if count:
            connection.execute("INSERT INTO signed VALUES ('digits', 3, 'cd')")
        connection.commit()
    registry = Registry(path)
    assert registry.newest_signed("digits") == (SignedRelease(3, "cd") if count else None)
    registry.close()
    assert schema(path) == SCHEMA_VERSION


# The copy.


def test_the_file_is_copied_before_it_changes_and_the_copy_is_private(path: Path) -> None:
    before = dump(path)
    Registry(path).close()
    copy = backup_path(path, 1)
    assert copy.name == "edgeq.db.schema-1"
    assert dump(copy) == before
    assert schema(copy) == 1
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["edgeq.db", "edgeq.db.schema-1"]


def test_what_is_only_in_the_log_is_in_the_copy_too(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO models (name) VALUES ('late')")
        connection.commit()
        assert path.with_name("edgeq.db-wal").stat().st_size
        Registry(path).close()
    assert any("'late'" in line for line in dump(backup_path(path, 1)))


def test_a_new_registry_and_one_of_today_are_not_copied(tmp_path: Path) -> None:
    for _ in range(2):
        Registry(tmp_path / "edgeq.db").close()
    assert [p.name for p in tmp_path.iterdir()] == ["edgeq.db"]


def test_what_an_earlier_copy_left_half_done_is_in_nobodys_way(path: Path) -> None:
    path.with_name("edgeq.db.schema-1.part").write_bytes(b"half")
    Registry(path).close()
    assert schema(backup_path(path, 1)) == 1
    assert not path.with_name("edgeq.db.schema-1.part").exists()


def test_without_a_copy_nothing_changes(path: Path) -> None:
    before = dump(path)
    backup_path(path, 1).mkdir()
    with pytest.raises(RegistryError, match="cannot be used"):
        Registry(path)
    assert (schema(path), dump(path)) == (1, before)


# What fails midway.


@pytest.mark.parametrize("position", range(len(NOTES) + 1))
def test_a_step_that_fails_anywhere_has_not_happened_and_is_taken_the_next_time(
    path: Path, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(path)
    broken = (*NOTES[:position], "CREATE TABLE", *NOTES[position:])
    with monkeypatch.context() as context:
        context.setattr(migrations, "STEPS", (FIRST, broken))
        with pytest.raises(RegistryError):
            Registry(path)
    assert (schema(path), dump(path)) == (1, before)
    Registry(path).close()
    assert schema(path) == SCHEMA_VERSION


def test_each_step_stands_for_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that went through one step and not the next is of the schema between them."""
    monkeypatch.setattr(migrations, "STEPS", (FIRST, NOTES, ("CREATE TABLE",)))
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 3)
    monkeypatch.setattr("edgeq.registry.database.SCHEMA_VERSION", 3)
    with pytest.raises(RegistryError):
        Database(path)
    assert schema(path) == 2
    assert "signed" in tables(path)


# The way back.


def newer(path: Path) -> None:
    with opened(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def test_a_newer_registry_is_refused_as_bad_usage_which_is_not_restarted(path: Path) -> None:
    Registry(path).close()
    newer(path)
    before = dump(path)
    with pytest.raises(NewerStateError, match=rf"schema {SCHEMA_VERSION + 1}") as caught:
        Registry(path)
    assert isinstance(caught.value, UsageError)  # exit code 2: RestartPreventExitStatus=2
    assert "Update edgeq" in caught.value.hint
    assert "another state_dir" in caught.value.hint
    assert dump(path) == before


def test_the_refusal_names_the_copy_that_the_newer_one_made(path: Path) -> None:
    Registry(path).close()
    newer(path)
    copy = backup_path(path, SCHEMA_VERSION)
    copy.write_bytes(path.read_bytes())
    with pytest.raises(EdgeqError) as caught:
        Registry(path)
    assert f"put {copy.name} in its place" in caught.value.hint
