"""The registry's file outlives crashes, says what is wrong with it, and is never half-changed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.errors import DamagedRegistryError, RegistryError
from edgeq.registry import Registry
from edgeq.registry.database import SCHEMA_VERSION, Database

# Goes live, back and forth for ever; says what will be live before and after it commits that.
WRITER = """
import sys
from pathlib import Path
from edgeq.registry import Registry

registry = Registry(Path(sys.argv[1]))
while True:
    number = registry.add_version("face", model_sha256="", engine="float", method="")
    registry.set_state("face", number, "verified")
    print("try", number, flush=True)
    registry.commit("face", number)
    print("did", number, flush=True)
    registry.record("face", "committed", "x" * 300, version=number)
    if number % 3 == 0 and (previous := registry.previous("face")):
        print("try", previous.version, flush=True)
        registry.rollback("face", "probation")
        print("did", previous.version, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edgeq.db"


def filled(path: Path, versions: int = 3) -> Registry:
    registry = Registry(path)
    for _ in range(versions):
        number = registry.add_version("face", model_sha256="", engine="float", method="")
        registry.commit("face", number)
        registry.record("face", "committed", "m" * 100, version=number)
    return registry


def check_laws(path: Path) -> int:
    """Open the file; return the live version, 0 for none, after checking what always holds."""
    registry = Registry(path)
    try:
        committed = [v for v in registry.versions("face") if v.state == "committed"]
        live = registry.live("face")
        assert committed == ([live] if live else [])
        assert registry.events(1000) is not None
        return live.version if live else 0
    finally:
        registry.close()


# Crashes.


def kill_while_writing(path: Path, seconds: float) -> list[list[str]]:
    """Run the writer and kill it without warning; return what it had said."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline(), writer.stdout.readline()]
    time.sleep(seconds)
    writer.kill()
    rest, _ = writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    return [line.split() for line in [*said, *rest.splitlines(keepends=True)] if "\n" in line]


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_had_done(path: Path) -> None:
    draw = random.Random(7)
    for _ in range(6):
        said = kill_while_writing(path, draw.uniform(0.0, 0.12))
        word, last = said[-1]
        done = next(number for word, number in reversed(said) if word == "did")
        assert check_laws(path) in {int(done), int(last) if word == "try" else int(done)}


def cut_copies(path: Path, folder: Path) -> Iterator[Path]:
    """Yield copies of the file whose log ends at any place, as after a power cut."""
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size
    draw = random.Random(11)
    for number, cut in enumerate([0, 1, size - 1, *(draw.randrange(size) for _ in range(40))]):
        copy = folder / f"{number}.db"
        shutil.copy(path, copy)
        (folder / f"{number}.db-wal").write_bytes(log.read_bytes()[:cut])
        yield copy


def test_a_log_cut_at_any_byte_leaves_an_earlier_state(path: Path, tmp_path: Path) -> None:
    with_log = filled(path)
    lives = {check_laws(copy) for copy in cut_copies(path, tmp_path)}
    with_log.close()
    assert {0, 3} <= lives <= {0, 1, 2, 3}
    assert check_laws(path) == 3


def test_what_fails_midway_has_not_happened(path: Path) -> None:
    database = Database(path)

    def fail_midway() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO models (name) VALUES ('face')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    with database.snapshot() as connection:
        assert connection.execute("SELECT * FROM models").fetchall() == []
    database.close()


def test_a_full_disk_is_an_error_that_changes_nothing(path: Path) -> None:
    registry = filled(path)
    with registry._database.snapshot() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    registry._database._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(RegistryError, match="full") as caught:
        registry.record("face", "tick", "x" * 1_000_000)
    assert not isinstance(caught.value, DamagedRegistryError)
    assert "disk not full" in caught.value.hint
    registry._database._connection.execute("PRAGMA max_page_count = 1000000")
    registry.commit("face", 1)
    registry.close()
    assert check_laws(path) == 1


# Damage and strangers.


def damage(path: Path, *, header: bool) -> None:
    content = bytearray(path.read_bytes())
    if header:
        content[:16] = b"not SQLite at al"
    else:
        content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize("header", [True, False])
def test_a_damaged_file_is_said_to_be_damaged(path: Path, header: bool) -> None:
    filled(path).close()
    damage(path, header=header)
    with pytest.raises(DamagedRegistryError, match=r"edgeq\.db is damaged: ") as caught:
        Registry(path)
    assert "-wal" in caught.value.hint


def test_a_damaged_file_is_kept_aside_by_recreate(path: Path) -> None:
    filled(path).close()
    damage(path, header=True)
    content = path.read_bytes()
    path.with_name("edgeq.db-wal").write_bytes(b"log")
    fresh = Registry.recreate(path)
    assert fresh.names() == []
    fresh.close()
    aside = sorted(p for p in path.parent.iterdir() if ".damaged-" in p.name)
    assert [p.read_bytes() for p in aside] == [content, b"log"]
    assert aside[1].name == aside[0].name + "-wal"


def test_a_folder_in_its_place_is_not_called_damage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RegistryError, match="cannot be used") as caught:
        Registry(path)
    assert not isinstance(caught.value, DamagedRegistryError)


def test_a_file_in_the_place_of_its_folder_is_a_registry_error(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(RegistryError, match="cannot be used"):
        Registry(path / "edgeq.db")


def test_a_closed_registry_says_so(path: Path) -> None:
    registry = filled(path)
    registry.close()
    with pytest.raises(RegistryError, match="closed"):
        registry.live("face")


# How it is opened.


def test_what_is_committed_is_synced(path: Path) -> None:
    database = Database(path)
    with database.snapshot() as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        }
    database.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "user_version": SCHEMA_VERSION,
    }


def test_a_second_reader_sees_what_was_committed(path: Path) -> None:
    first = filled(path)
    second = Registry(path)
    first.rollback("face", "bad")
    found = second.live("face")
    assert found is not None
    assert found.version == 2
    first.close()
    second.close()


def test_the_live_pointer_cannot_name_what_does_not_exist(path: Path) -> None:
    database = Database(path)
    with pytest.raises(RegistryError, match="FOREIGN KEY"), database.transaction() as connection:
        connection.execute("INSERT INTO models (name, live) VALUES ('face', 3)")
    database.close()
