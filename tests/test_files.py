"""A crash, a full disk or a failing rename leaves the old content or the new, and no litter."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import files


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _failing(message: str) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, message)

    return fail


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_bytes(b"old")
    return path


def test_new_content_replaces_the_old(target: Path) -> None:
    files.write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert _names(target.parent) == ["table.json"]


def test_an_exception_inside_the_block_keeps_the_old_content(target: Path) -> None:
    def write_half() -> None:
        with files.atomic_writer(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert _names(target.parent) == ["table.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_keeps_the_old_content(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, _failing("No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert _names(target.parent) == ["table.json"]


def test_content_is_on_disk_before_its_name_and_its_name_before_the_return(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(fd: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def spy_replace(source: Path, destination: Path) -> None:
        calls.append("rename")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    files.write_atomic(target, b"new")
    assert calls == ["file", "rename", "directory"]


def test_a_killed_writer_leaves_the_old_content_and_a_leftover_that_is_swept(target: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from edgeq import files\n"
        "with files.atomic_writer(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert killed.returncode == -9
    assert target.read_bytes() == b"old"
    assert len(_names(target.parent)) == 2
    assert files.sweep_temporaries(target.parent) == 1
    assert _names(target.parent) == ["table.json"]


def test_a_reader_never_sees_a_mixture(target: Path) -> None:
    contents = [bytes([digit]) * 10_000 for digit in range(20)]
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents:
        files.write_atomic(target, content)
    done.set()
    reader.join()
    assert set(seen) <= {b"old", *contents}


@pytest.mark.parametrize(("umask", "usual"), [(0o022, 0o640), (0o077, 0o600)])
def test_a_mode_that_was_asked_for_does_not_depend_on_the_umask(
    tmp_path: Path, umask: int, usual: int
) -> None:
    before = os.umask(umask)
    try:
        files.write_atomic(tmp_path / "secret", b"", mode=0o600)
        files.write_atomic(tmp_path / "usual", b"")
        files.write_atomic(tmp_path / "status", b"", mode=0o644)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"secret": 0o600, "usual": usual, "status": 0o644}


@pytest.mark.parametrize("name", ["x" * 255, "\u6a21" * 85])
def test_a_name_as_long_as_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    files.write_atomic(path, b"data")
    assert path.read_bytes() == b"data"


@given(data=st.binary(max_size=5000), limit=st.integers(0, 5000))
def test_a_copy_is_whole_or_not_there(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, limit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "copy"
    path.unlink(missing_ok=True)
    result = files.copy_durably(io.BytesIO(data), path, max_bytes=limit)
    if len(data) > limit:
        assert result is None
        assert not path.exists()
    else:
        assert result == (hashlib.sha256(data).hexdigest(), len(data))
        assert path.read_bytes() == data


def test_too_large_a_copy_keeps_what_was_there(target: Path) -> None:
    assert files.copy_durably(io.BytesIO(b"x" * 11), target, max_bytes=10) is None
    assert target.read_bytes() == b"old"
    assert _names(target.parent) == ["table.json"]


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(files.COPY_CHUNK_BYTES + 17)
    (tmp_path / "big").write_bytes(data)
    assert files.sha256_file(tmp_path / "big") == files.sha256_bytes(data)
    assert files.sha256_bytes(b"abc").startswith("ba7816bf")


def test_missing_folders_are_made_durable_one_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "fsync_directory", lambda path: synced.append(path.name))
    files.make_directory(tmp_path / "bundles" / "face")
    assert (tmp_path / "bundles" / "face").is_dir()
    assert synced == [tmp_path.name, "bundles"]
    files.make_directory(tmp_path / "bundles" / "face")  # there already: nothing to do
    assert len(synced) == 2


def test_a_published_directory_appears_whole(tmp_path: Path) -> None:
    source = files.make_temporary_directory(tmp_path)
    (source / "cuda").mkdir()
    (source / "cuda" / "kernel").write_bytes(b"k")
    (source / "manifest.json").write_bytes(b"{}")
    files.publish_directory(source, tmp_path / "7")
    assert _names(tmp_path) == ["7"]
    assert (tmp_path / "7" / "cuda" / "kernel").read_bytes() == b"k"


def test_every_file_and_folder_is_durable_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = files.make_temporary_directory(tmp_path)
    (source / "deep").mkdir()
    (source / "deep" / "file").write_bytes(b"x")
    calls: list[str] = []
    rename = os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: calls.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
    )

    def spy_rename(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "rename", spy_rename)
    files.publish_directory(source, tmp_path / "7")
    assert calls == ["file", "deep", source.name, "rename", tmp_path.name]


def test_a_directory_is_not_published_over_another(tmp_path: Path) -> None:
    source = files.make_temporary_directory(tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(OSError, match="not empty"):
        files.publish_directory(source, tmp_path / "7")
    assert _names(tmp_path / "7") == ["manifest.json"]


def test_a_removed_tree_is_gone_and_removing_nothing_is_fine(tmp_path: Path) -> None:
    (tmp_path / "7" / "cuda").mkdir(parents=True)
    (tmp_path / "7" / "cuda" / "kernel").write_bytes(b"k")
    files.remove_tree(tmp_path / "7")
    files.remove_tree(tmp_path / "7")
    assert _names(tmp_path) == []


def test_a_sweep_takes_leftovers_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "samples" / "face").mkdir(parents=True)
    (tmp_path / "samples" / "face" / "a.npz").write_bytes(b"")
    (tmp_path / "samples" / "face" / f"{files.TEMPORARY_PREFIX}1-a.npz").write_bytes(b"")
    doomed = files.make_temporary_directory(tmp_path / "bundles")
    (doomed / f"{files.TEMPORARY_PREFIX}inner").write_bytes(b"")
    assert files.sweep_temporaries(tmp_path) >= 2
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.npz"]
    assert files.sweep_temporaries(tmp_path) == 0


def test_a_fingerprint_changes_with_the_file_and_is_empty_without_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert files.fingerprint(path) == ()
    path.write_bytes(b"a")
    seen = {files.fingerprint(path)}
    os.utime(path, ns=(1, 1))
    seen.add(files.fingerprint(path))
    path.write_bytes(b"ab")
    seen.add(files.fingerprint(path))
    files.write_atomic(path, b"ab")
    seen.add(files.fingerprint(path))
    assert len(seen) == 4


def test_what_others_may_read_is_told_by_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not files.is_readable_by_all(path)
    path.touch(mode=0o600)
    for mode, is_readable in ((0o600, False), (0o640, False), (0o644, True)):
        path.chmod(mode)
        assert files.is_readable_by_all(path) is is_readable


@pytest.mark.parametrize(
    ("mode", "rights"),
    [(0o700, ""), (0o755, "rx"), (0o777, "rwx"), (0o1777, "rwx"), (0o1776, "rw"), (0o702, "w")],
)
def test_the_rights_of_all_are_those_of_others(tmp_path: Path, mode: int, rights: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert files.rights_of_all(folder) == rights
    assert files.rights_of_all(tmp_path / "none") == ""
