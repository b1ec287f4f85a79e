"""SharedMemory on files of its own folder: whose, which, how many, and what lies outside."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from edgeq.serve.requests import RegionSlice
from edgeq.serve.shared_memory import Region, SharedMemory

CONTENT = bytes(range(100))
Segment = Callable[..., Path]


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    def make(name: str = "frames", content: bytes = CONTENT, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return make


@pytest.fixture
def memory(tmp_path: Path) -> SharedMemory:
    return SharedMemory(tmp_path, max_regions=3, max_read_bytes=80)


def place(offset: int, size: int, region: str = "r") -> RegionSlice:
    return RegionSlice(region, offset, size)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- registration


@pytest.mark.parametrize("key", ["frames", "/frames"])
def test_a_region_is_a_part_of_a_segment(memory: SharedMemory, segment: Segment, key: str) -> None:
    segment()
    memory.register("r", key, 10, 20)
    assert memory.status() == memory.status("r") == [Region("r", key, 10, 20)]
    assert bytes(memory.read(place(5, 15))) == CONTENT[15:30]


def test_a_name_is_registered_once(memory: SharedMemory, segment: Segment) -> None:
    segment()
    memory.register("r", "frames", 0, 10)
    with pytest.raises(ConflictError, match="region 'r' is registered already"):
        memory.register("r", "frames", 0, 20)
    assert memory.status("r") == [Region("r", "frames", 0, 10)]


def test_regions_are_bounded_in_number(memory: SharedMemory, segment: Segment) -> None:
    segment()
    for name in "abc":
        memory.register(name, "frames", 0, 10)
    with pytest.raises(ConflictError, match="one more than the 3 that can be"):
        memory.register("d", "frames", 0, 10)
    memory.unregister("b")
    memory.register("d", "frames", 0, 10)
    assert [region.name for region in memory.status()] == ["a", "c", "d"]


@pytest.mark.parametrize("name", ["", "n" * 256, "ä" * 128])
def test_a_region_has_a_name_of_bounded_length(
    memory: SharedMemory, segment: Segment, name: str
) -> None:
    segment()
    with pytest.raises(InvalidRequestError, match="1 to 255 bytes are expected"):
        memory.register(name, "frames", 0, 10)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "//", ".", "..", "/.", "/..", "//frames", "frames/", "a/frames", "/a/frames"),
        *("../frames", "/../frames", "frames\0", "k" * 256, "/" + "ä" * 128, "\ud800" * 256),
    ],
)
def test_a_key_is_one_name_in_the_folder(memory: SharedMemory, segment: Segment, key: str) -> None:
    segment()
    with pytest.raises(InvalidRequestError, match="a segment's name is expected"):
        memory.register("r", key, 0, 10)


@pytest.mark.parametrize("key", ["sem.frames", "/cuda.shm.0.1", "fra\nmes", "\ud800"])
def test_what_libraries_keep_and_nobody_types_is_no_key(memory: SharedMemory, key: str) -> None:
    with pytest.raises(InvalidRequestError, match="which no client's has"):
        memory.register("r", key, 0, 10)


def test_a_segment_that_is_not_there_is_refused(memory: SharedMemory) -> None:
    with pytest.raises(InvalidRequestError, match="No such file") as caught:
        memory.register("r", "frames", 0, 10)
    assert "Create the segment first" in caught.value.hint


def test_a_link_is_not_followed(memory: SharedMemory, tmp_path: Path, segment: Segment) -> None:
    (tmp_path / "link").symlink_to(segment())
    with pytest.raises(InvalidRequestError, match="symbolic links"):
        memory.register("r", "link", 0, 10)


def test_only_files_are_segments(memory: SharedMemory, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = open_descriptors()
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        memory.register("r", "folder", 0, 10)
    with pytest.raises(InvalidRequestError, match="which is no segment: prw"):
        memory.register("r", "fifo", 0, 10)
    assert open_descriptors() == before


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (1 << 62, 1), (0, 1 << 70)])
def test_a_region_lies_inside_its_segment(
    memory: SharedMemory, segment: Segment, offset: int, size: int
) -> None:
    segment()
    with pytest.raises(InvalidRequestError, match="the segment 'frames' has 100"):
        memory.register("r", "frames", offset, size)


@pytest.mark.parametrize(("offset", "size"), [(-1, 10), (0, 0), (0, -1)])
def test_a_region_has_bytes(memory: SharedMemory, segment: Segment, offset: int, size: int) -> None:
    segment()
    with pytest.raises(InvalidRequestError, match="0 or more and 1 or more are expected"):
        memory.register("r", "frames", offset, size)


# ---- whose segments


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the process another user, of another group, with the right to open all the same."""
    user, group = os.geteuid() + 1, os.getegid() + 1
    monkeypatch.setattr("edgeq.serve.shared_memory.os.geteuid", lambda: user)
    monkeypatch.setattr("edgeq.serve.shared_memory.os.getegid", lambda: group)


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_daemon_s_rights_are_not_lent(
    memory: SharedMemory, segment: Segment, mode: int
) -> None:
    segment(mode=mode)
    before = open_descriptors()
    with pytest.raises(InvalidRequestError, match="with rw, is expected") as caught:
        memory.register("r", "frames", 0, 10)
    assert "chgrp" in caught.value.hint
    assert open_descriptors() == before


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o660, True), (0o640, False), (0o606, False)])
def test_a_segment_is_given_by_its_group(
    memory: SharedMemory,
    segment: Segment,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    is_taken: bool,
) -> None:
    group = segment(mode=mode).stat().st_gid
    monkeypatch.setattr("edgeq.serve.shared_memory.os.getegid", lambda: group)
    if is_taken:
        memory.register("r", "frames", 0, 10)
        return
    with pytest.raises(InvalidRequestError, match=f"group {group}, -rw"):
        memory.register("r", "frames", 0, 10)


# ---- reading and writing


def test_what_is_read_is_a_copy_that_stays(memory: SharedMemory, segment: Segment) -> None:
    path = segment()
    memory.register("r", "frames", 0, 100)
    taken = memory.read(place(0, 4))
    path.write_bytes(bytes(100))
    assert taken.readonly
    assert bytes(taken) == CONTENT[:4]
    assert bytes(memory.read(place(0, 4))) == bytes(4)


@pytest.mark.parametrize("content", [b"abcd", np.frombuffer(b"abcd", np.uint8)])
def test_an_output_takes_no_more_than_its_bytes(
    memory: SharedMemory, segment: Segment, content: object
) -> None:
    path = segment()
    memory.register("r", "frames", 10, 20)
    memory.write(place(2, 18), content)
    assert path.read_bytes() == CONTENT[:12] + b"abcd" + CONTENT[16:]


def test_an_output_that_is_larger_than_its_place_is_refused(
    memory: SharedMemory, segment: Segment
) -> None:
    path = segment()
    memory.register("r", "frames", 0, 100)
    with pytest.raises(InvalidRequestError, match="given 3 bytes of room; the output has 4"):
        memory.write(place(0, 3), b"abcd")
    assert path.read_bytes() == CONTENT


def test_a_tensor_is_bounded_before_memory_is_taken(memory: SharedMemory, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    memory.register("r", "sparse", 0, 1 << 40)
    with pytest.raises(TooLargeError, match="at most 80 are taken"):
        memory.read(place(0, 1 << 40))


@given(
    start=st.integers(0, 99),
    offset=st.one_of(st.integers(-5, 110), st.integers()),
    size=st.one_of(st.integers(-5, 110), st.integers()),
    data=st.data(),
)
def test_nothing_outside_a_region_is_read_or_written(
    tmp_path_factory: pytest.TempPathFactory,
    start: int,
    offset: int,
    size: int,
    data: st.DataObject,
) -> None:
    byte_size = data.draw(st.integers(1, 100 - start))
    folder = tmp_path_factory.mktemp("segments")
    (folder / "frames").write_bytes(CONTENT)
    memory = SharedMemory(folder)
    memory.register("r", "frames", start, byte_size)
    if offset < 0 or size < 0 or offset + size > byte_size:
        with pytest.raises(InvalidRequestError, match="are not inside"):
            memory.read(place(offset, size))
        with pytest.raises(InvalidRequestError, match="are not inside"):
            memory.write(place(offset, size), b"")
        return
    first = start + offset
    assert bytes(memory.read(place(offset, size))) == CONTENT[first : first + size]
    memory.write(place(offset, size), b"\xff" * size)
    expected = CONTENT[:first] + b"\xff" * size + CONTENT[first + size :]
    assert (folder / "frames").read_bytes() == expected


# ---- what a client may do to its segment meanwhile


def test_a_truncated_segment_is_an_error_and_nothing_worse(
    memory: SharedMemory, segment: Segment
) -> None:
    path = segment()
    memory.register("r", "frames", 0, 100)
    os.truncate(path, 50)
    with pytest.raises(InvalidRequestError, match="region 'r' was truncated: 20 bytes from off"):
        memory.read(place(40, 20))
    with pytest.raises(InvalidRequestError, match="region 'r' was truncated"):
        memory.write(place(40, 20), bytes(20))
    assert path.stat().st_size == 50
    assert bytes(memory.read(place(30, 20))) == CONTENT[30:50]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_region_stays_the_file_that_was_registered(
    memory: SharedMemory, segment: Segment, how: str
) -> None:
    path = segment()
    memory.register("r", "frames", 0, 100)
    path.unlink()
    if how == "replaced":
        segment(content=bytes(100))
    assert bytes(memory.read(place(0, 8))) == CONTENT[:8]
    memory.write(place(0, 8), b"abcdefgh")
    assert bytes(memory.read(place(0, 8))) == b"abcdefgh"
    assert memory.status("r") == [Region("r", "frames", 0, 100)]


def test_a_box_without_room_is_said_to_the_client(
    memory: SharedMemory, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    segment()
    memory.register("r", "frames", 0, 100)
    monkeypatch.setattr("edgeq.serve.shared_memory.os.pwrite", fail)
    monkeypatch.setattr("edgeq.serve.shared_memory.os.pread", fail)
    with pytest.raises(InvalidRequestError, match="cannot be written: No space left"):
        memory.write(place(0, 1), b"a")
    with pytest.raises(InvalidRequestError, match="cannot be read: No space left"):
        memory.read(place(0, 1))


def test_an_output_that_was_written_in_part_is_an_error(
    memory: SharedMemory, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment()
    memory.register("r", "frames", 0, 100)
    monkeypatch.setattr("edgeq.serve.shared_memory.os.pwrite", lambda *_: 1)
    with pytest.raises(InvalidRequestError, match="was truncated"):
        memory.write(place(0, 2), b"ab")


# ---- unregistering


def test_an_unknown_region_is_named(memory: SharedMemory) -> None:
    for act in (lambda: memory.read(place(0, 1)), lambda: memory.write(place(0, 1), b"a")):
        with pytest.raises(InvalidRequestError, match="region 'r' is unknown"):
            act()
    with pytest.raises(NotFoundError, match="region 'r' is unknown"):
        memory.status("r")


def test_unregistering_closes_and_may_be_repeated(memory: SharedMemory, segment: Segment) -> None:
    segment()
    before = open_descriptors()
    memory.register("a", "frames", 0, 10)
    memory.register("b", "frames", 0, 10)
    assert open_descriptors() == before + 2
    memory.unregister("a")
    memory.unregister("a")
    assert [region.name for region in memory.status()] == ["b"]
    memory.unregister_all()
    assert memory.status() == []
    assert open_descriptors() == before


def test_a_refused_registration_leaves_nothing_open(memory: SharedMemory, segment: Segment) -> None:
    segment()
    before = open_descriptors()
    for _ in range(5):
        with pytest.raises(InvalidRequestError):
            memory.register("r", "frames", 0, 1000)
    memory.register("r", "frames", 0, 10)
    memory.close()
    assert open_descriptors() == before


def test_unregistering_waits_for_the_request_that_reads(
    memory: SharedMemory, segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment()
    segment("other", content=bytes(100))
    memory.register("r", "frames", 0, 100)
    is_reading, may_read = threading.Event(), threading.Event()
    pread = os.pread

    def slow(*arguments: int) -> bytes:
        is_reading.set()
        assert may_read.wait(10)
        return pread(*arguments)

    monkeypatch.setattr("edgeq.serve.shared_memory.os.pread", slow)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(bytes(memory.read(place(0, 4)))))
    reader.start()
    assert is_reading.wait(10)
    memory.unregister("r")
    memory.register("r", "other", 0, 100)  # would take the number of a descriptor that was closed
    may_read.set()
    reader.join(10)
    assert found == [CONTENT[:4]]
