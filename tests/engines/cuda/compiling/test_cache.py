from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq import files
from edgeq.engines.cuda.compiling.cache import CubinCache, cubin_key, default_folder

KEY = cubin_key("source", ("-std=c++17",), "sm_87", (12, 9))


def entry_size(cache: CubinCache, image: bytes) -> int:
    assert cache.store("size", image) == ""
    size = (cache.folder / "size.cubin").stat().st_size
    (cache.folder / "size.cubin").unlink()
    return size


def age(cache: CubinCache, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(cache.folder / f"{key}.cubin", (then, then))


def test_what_was_stored_is_loaded(tmp_path):
    cache = CubinCache(tmp_path / "deep" / "kernels")
    assert cache.load(KEY) is None
    assert cache.store(KEY, b"cubin") == ""
    assert cache.load(KEY) == b"cubin"


def test_the_key_depends_on_all_that_a_cubin_depends_on():
    keys = {
        KEY,
        cubin_key("source2", ("-std=c++17",), "sm_87", (12, 9)),
        cubin_key("source", ("-std=c++14",), "sm_87", (12, 9)),
        cubin_key("source", ("-std=c++17", ""), "sm_87", (12, 9)),
        cubin_key("-std=c++17source", (), "sm_87", (12, 9)),
        cubin_key("source", ("-std=c++17",), "sm_72", (12, 9)),
        cubin_key("source", ("-std=c++17",), "sm_87", (12, 6)),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("place", [0, 8, 41, -1])
def test_a_damaged_entry_is_not_loaded_and_goes(place, tmp_path):
    cache = CubinCache(tmp_path)
    cache.store(KEY, b"cubin" * 10)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.load(KEY) is None
    assert not path.exists()
    assert cache.store(KEY, b"cubin") == ""
    assert cache.load(KEY) == b"cubin"


@pytest.mark.parametrize("size", [0, 7, 40, 60])
def test_a_torn_entry_is_not_loaded(size, tmp_path):
    cache = CubinCache(tmp_path)
    cache.store(KEY, b"cubin" * 10)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:size])
    assert cache.load(KEY) is None


def test_the_least_recently_used_leave_first(tmp_path):
    size = entry_size(CubinCache(tmp_path), b"x" * 100)
    cache = CubinCache(tmp_path, max_bytes=3 * size)
    for number in range(5):
        cache.store(f"key{number}", b"x" * 100)
        age(cache, f"key{number}", 100 - number)
    assert cache.load("key0") is not None  # and so is the most recently used
    assert cache.trim() == 2
    assert {path.stem for path in tmp_path.iterdir()} == {"key0", "key3", "key4"}
    assert cache.trim() == 0


def test_what_a_crash_left_goes_once_it_is_old(tmp_path):
    cache = CubinCache(tmp_path)
    for name, seconds in (("old", 7200), ("young", 0)):
        path = tmp_path / f"{files.TEMPORARY_PREFIX}{name}"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - seconds,) * 2)
    cache.trim()
    assert [path.name for path in tmp_path.iterdir()] == [f"{files.TEMPORARY_PREFIX}young"]


def test_a_folder_that_cannot_be_made_is_a_reason_and_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = CubinCache(tmp_path / "file" / "kernels")
    assert cache.load(KEY) is None
    assert cache.store(KEY, b"cubin") == (
        f"kernels are not kept in {tmp_path}/file/kernels: Not a directory"
    )
    assert cache.trim() == 0


def test_a_full_disk_is_a_reason_and_no_error(tmp_path, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_atomic", full)
    reason = CubinCache(tmp_path).store(KEY, b"cubin")
    assert reason == f"kernels are not kept in {tmp_path}: No space left on device"


def test_an_entry_that_others_removed_meanwhile_is_no_error(tmp_path, monkeypatch):
    cache = CubinCache(tmp_path, max_bytes=0)
    cache.store(KEY, b"cubin")
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path: (unlink(path), unlink(path)))
    assert cache.trim() == 0
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_is_writing_stays(tmp_path):
    cache = CubinCache(tmp_path, max_bytes=0)
    with files.atomic_writer(tmp_path / f"{KEY}.cubin") as file:
        file.write(b"cubin")
        file.flush()
        assert cache.trim() == 0
    assert cache.trim() == 1


STORE_AND_LOAD = """
import sys
from pathlib import Path
from edgeq.engines.cuda.compiling.cache import CubinCache

cache, worker, seen = CubinCache(Path(sys.argv[1]), max_bytes=2000), int(sys.argv[2]), 0
for number in range(60):
    key = f"key{number % 7}"
    image = cache.load(key)
    assert image in (None, key.encode() * 50), image
    seen += image is not None
    assert cache.store(key, key.encode() * 50) == ""
    if number % 10 == worker:
        cache.trim()
assert seen
"""


def test_several_processes_share_a_folder(tmp_path):
    workers = [
        subprocess.Popen([sys.executable, "-c", STORE_AND_LOAD, tmp_path, str(worker)])
        for worker in range(3)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 7 * 300


def test_the_service_s_cache_folder_comes_before_the_user_s():
    user = {"HOME": "/home/me", "XDG_CACHE_HOME": "/x"}
    assert default_folder({"CACHE_DIRECTORY": "/var/cache/edgeq:/b", **user}) == Path(
        "/var/cache/edgeq/kernels"
    )
    assert default_folder(user) == Path("/x/edgeq/kernels")
    assert default_folder({"HOME": "/home/me"}) == Path("/home/me/.cache/edgeq/kernels")
