from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.errors import RegistryError
from edgeq.registry import Registry, database, spare
from edgeq.registry.database import REOPEN_S, Database


@dataclass
class Disk:
    """What the disk of the registry says of a write; and a clock."""

    number: int = errno.EROFS
    now: float = 0.0

    def refusal(self, folder: Path) -> OSError | None:
        return OSError(self.number, os.strerror(self.number)) if self.number else None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that takes no writes: SQLite cannot open the file on it."""
    made = Disk()
    connect = database.sqlite3.connect

    def refuse(path: Path, **options: object) -> object:
        if made.number:
            raise database.sqlite3.OperationalError("attempt to write a readonly database")
        return connect(path, **options)

    class Refusing:
        def __getattr__(self, name: str) -> object:
            return refuse if name == "connect" else getattr(spare.sqlite3, name)

    monkeypatch.setattr(database, "sqlite3", Refusing())
    monkeypatch.setattr(database, "refusal_of", made.refusal)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registry with a live version, the last commit of which is in its log only: a crash's."""
    folder = tmp_path / "state"
    registry = Registry(folder / "edgeq.db")
    for number in (1, 2):
        registry.add_version("face", model_sha256=f"{number}", engine="float", method="float")
        registry.commit("face", number)
    crashed = tmp_path / "crashed"
    shutil.copytree(folder, crashed)
    registry.close()
    assert (crashed / "edgeq.db-wal").stat().st_size > 0
    return crashed / "edgeq.db"


def test_what_was_committed_last_is_read_from_a_disk_that_takes_no_writes(path, disk):
    registry = Registry(path)
    live = registry.live("face")
    assert live is not None
    assert live.version == 2
    assert registry.refusal is not None
    registry.close()


def test_a_write_is_refused_with_the_disk_s_reason_and_changes_nothing(path, disk):
    registry = Registry(path)
    with pytest.raises(RegistryError, match="cannot be written: Read-only file system") as raised:
        registry.remove_live("face")
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EROFS
    assert registry.live("face") is not None
    registry.close()


def test_it_goes_on_with_the_file_when_the_disk_takes_writes_again(path, disk):
    found = Database(path, clock=lambda: disk.now)
    disk.number = 0
    with pytest.raises(RegistryError), found.transaction():
        pass  # it is not asked again at once
    disk.now += REOPEN_S
    with found.transaction() as connection:
        connection.execute("UPDATE models SET is_pinned = 1")
    assert found.refusal is None
    found.close()
    registry = Registry(path)
    assert registry.is_pinned("face")
    registry.close()


def test_a_file_that_is_not_there_is_no_empty_registry(tmp_path, disk):
    with pytest.raises(RegistryError):
        Registry(tmp_path / "edgeq.db")


def test_a_refusal_that_is_not_the_disk_s_is_raised(path, disk, monkeypatch):
    monkeypatch.setattr(database, "refusal_of", lambda folder: None)  # another owner's, say
    with pytest.raises(RegistryError, match="readonly"):
        Registry(path)


def test_where_nothing_takes_a_copy_the_reason_is_raised(path, disk, monkeypatch, tmp_path):
    monkeypatch.setattr(spare, "spare_folders", lambda: iter([str(tmp_path / "missing")]))
    with pytest.raises(RegistryError, match="No such file"):
        Registry(path)


def test_a_folder_that_takes_writes_is_left_as_it_was(tmp_path):
    assert spare.refusal_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_no_fault_of_the_disk(tmp_path):
    assert spare.refusal_of(tmp_path / "missing") is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_the_disk_s_own_refusal_is_told(tmp_path, monkeypatch, number):
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(spare.os, "fsync", refuse)
    refusal = spare.refusal_of(tmp_path)
    assert refusal is not None
    assert refusal.errno == number
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_made_in_the_service_s_own_folder_in_memory_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert list(spare.spare_folders())[:3] == [f"{tmp_path}/one", f"{tmp_path}/two", "/dev/shm"]
