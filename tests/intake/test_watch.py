from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.intake import watch
from edgeq.intake.watch import Candidate, Scan, Scanner

SETTLE_S = 2.0


class Folder:
    """A drop folder under a scanner whose clock the test turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.scanner = Scanner(path, SETTLE_S, lambda: self.now)

    def write(self, name: str, content: bytes = b"model") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def scan(self, after_s: float = 0.0) -> Scan:
        self.now += after_s
        return self.scanner.scan()

    def settle(self) -> tuple[Candidate, ...]:
        """Return what is new after everything rested."""
        first = self.scan(after_s=100)
        return (*first.settled, *self.scan(after_s=SETTLE_S).settled)

    def settled(self) -> list[str]:
        return [candidate.name for candidate in self.settle()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "models"
    path.mkdir()
    return Folder(path)


# ---- settling


def test_a_drop_is_reported_once_after_it_has_rested(folder: Folder) -> None:
    folder.write("face.tflite")
    assert folder.scan() == Scan((), True, ())
    assert folder.scan(after_s=1.9) == Scan((), True, ())
    found = folder.scan(after_s=0.2)
    assert [c.name for c in found.settled] == ["face"]
    assert not found.pending
    assert folder.scan(after_s=10) == Scan((), False, ())


def test_a_writer_in_20_pieces_is_waited_for(folder: Folder) -> None:
    path = folder.write("face.tflite", b"")
    for piece in range(20):
        with path.open("ab") as file:
            file.write(bytes([piece]))
        assert folder.scan(after_s=1.5) == Scan((), True, ())
    assert folder.settled() == ["face"]


def test_every_change_starts_the_wait_anew(folder: Folder) -> None:
    path = folder.write("face.tflite")
    folder.scan()
    os.utime(path, ns=(0, 12345))
    assert not folder.scan(after_s=SETTLE_S).settled
    replacement = folder.write("other.tmp")
    os.utime(replacement, ns=(0, 12345))
    replacement.rename(path)  # same size and time, another inode
    assert not folder.scan(after_s=SETTLE_S).settled
    assert folder.scan(after_s=SETTLE_S).settled


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=12))
def test_nothing_is_reported_that_changed_within_the_settle_time(
    steps: list[tuple[bool, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder(tmp_path_factory.mktemp("models"))
    size, changed = 1, 0.0
    path = folder.write("face.tflite", b"x")
    for is_write, wait_s in steps:
        if is_write:
            size, changed = size + 1, folder.now
            path.write_bytes(b"x" * size)
        if folder.scan(after_s=wait_s).settled:
            assert folder.now - changed >= SETTLE_S


def test_new_bytes_are_a_new_drop(folder: Folder) -> None:
    folder.write("face.tflite", b"one")
    assert folder.settled() == ["face"]
    folder.write("face.tflite", b"other")
    assert folder.settled() == ["face"]


def test_a_file_made_readable_is_looked_at_again(folder: Folder) -> None:
    path = folder.write("face.tflite")
    folder.settle()
    path.chmod(0o444)
    assert folder.settled() == ["face"]


def test_forget_reports_a_drop_again(folder: Folder) -> None:
    folder.write("face.tflite")
    folder.write("a b.tflite")
    refused = next(c.name for c in folder.settle() if c.refusal)
    folder.scanner.forget("face")
    folder.scanner.forget(refused)
    folder.scanner.forget("never seen")
    assert sorted(folder.settled()) == sorted(["face", refused])


# ---- what is a drop


@pytest.mark.parametrize(
    "name", [".face.tflite", "face.tflite.part", "face.tflite.tmp", "face.tflite~",
             ".face.tflite.swp", "face.yaml", "notes.txt", "face.tflite.minisig"]
)  # fmt: skip
def test_other_files_are_no_drops(folder: Folder, name: str) -> None:
    folder.write(name)
    assert folder.scan() == Scan((), False, ())


def test_a_folder_gives_its_name_to_the_file_inside(folder: Folder) -> None:
    path = folder.write("face/model_v3.tflite")
    folder.write("face/.model.tflite.Ab3x")
    folder.write("empty/readme.txt")
    (candidate,) = folder.settle()
    assert (candidate.name, candidate.path) == ("face", path)


def test_the_newest_settled_file_of_a_name_is_the_drop(folder: Folder) -> None:
    folder.write("face/b.tflite", b"1")
    folder.write("face.tflite", b"12")
    newest = folder.write("face/a.tflite", b"123")
    (candidate,) = folder.settle()
    assert candidate.path == newest


def test_a_growing_file_does_not_hold_back_a_settled_one(folder: Folder) -> None:
    settled = folder.write("face/a.tflite")
    folder.scan()
    folder.write("face/b.tflite")
    found = folder.scan(after_s=SETTLE_S)
    assert [c.path for c in found.settled] == [settled]
    assert found.pending


def test_companions_belong_to_the_drop(folder: Folder) -> None:
    folder.write("face.tflite")
    sidecar, signature = folder.write("face.yaml"), folder.write("face.tflite.minisig")
    (candidate,) = folder.settle()
    assert (candidate.sidecar, candidate.signature) == (sidecar, signature)


def test_companions_of_a_folder_lie_beside_it_or_inside(folder: Folder) -> None:
    folder.write("face/v3.tflite")
    beside = folder.write("face.yaml")
    assert folder.settle()[0].sidecar == beside
    inside = folder.write("face/v3.yaml")
    assert folder.settle()[0].sidecar == inside


@pytest.mark.parametrize("name", ["face.yaml", "face.tflite.minisig"])
def test_a_companion_that_changes_must_settle_and_is_a_new_drop(folder: Folder, name: str) -> None:
    folder.write("face.tflite")
    folder.settle()
    companion = folder.write(name)
    assert folder.scan() == Scan((), True, ())
    assert folder.settled() == ["face"]
    companion.unlink()
    assert folder.settled() == ["face"]


def test_a_link_inside_the_folder_is_followed(folder: Folder) -> None:
    (folder.path / "store" / "v1").mkdir(parents=True)
    real = folder.write("store/v1/model.bin")
    (folder.path / "face.tflite").symlink_to("store/v1/model.bin")
    (candidate,) = folder.settle()
    assert (candidate.name, candidate.path, candidate.refusal) == ("face", real, "")
    real.write_bytes(b"new content behind the same link")
    assert folder.settled() == ["face"]


# ---- what is refused, with a reason


def _refusal(folder: Folder) -> str:
    (candidate,) = folder.settle()
    assert candidate.hint
    assert not folder.settle(), "a refusal is reported once"
    return candidate.refusal


def test_a_link_to_the_outside_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder.path / "face.tflite").symlink_to(tmp_path / "secret")
    assert "outside the drop folder" in _refusal(folder)


def test_a_linked_folder_outside_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.tflite").write_bytes(b"model")
    (folder.path / "face").symlink_to(tmp_path / "other")
    assert "outside the drop folder" in _refusal(folder)


def test_a_companion_linked_outside_refuses_the_drop(folder: Folder, tmp_path: Path) -> None:
    folder.write("face.tflite")
    (tmp_path / "passwd").write_bytes(b"")
    (folder.path / "face.yaml").symlink_to(tmp_path / "passwd")
    assert "'face.yaml' links to" in _refusal(folder)


@pytest.mark.parametrize("target", ["nowhere", "face.tflite"])
def test_a_link_that_leads_nowhere_is_refused(folder: Folder, target: str) -> None:
    (folder.path / "face.tflite").symlink_to(target)
    assert "a link to nothing" in _refusal(folder)


def test_a_named_pipe_is_refused_without_being_opened(folder: Folder) -> None:
    os.mkfifo(folder.path / "face.tflite")
    assert "named pipe" in _refusal(folder)


def test_a_socket_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)  # the path of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("face.tflite")
        assert "a socket" in _refusal(folder)


def test_a_folder_named_like_a_file_is_refused(folder: Folder) -> None:
    (folder.path / "face.tflite").mkdir()
    folder.write("face.tflite/model.tflite")
    assert "a folder" in _refusal(folder)


@pytest.mark.parametrize("name", [b"a b", b"\xff\xfe", "ä".encode(), b"a\nb", b"x" * 129])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_cannot_be_a_models_is_refused(
    folder: Folder, name: bytes, is_folder: bool
) -> None:
    name = name + b"/model.tflite" if is_folder else name + b".tflite"
    folder.write(os.fsdecode(name))
    refusal = _refusal(folder)
    assert "cannot be a model's" in refusal
    assert refusal.encode(), "the reason can be written down"


def test_a_refused_file_does_not_hide_a_good_one(folder: Folder) -> None:
    good = folder.write("face/a.tflite")
    os.mkfifo(folder.path / "face" / "b.tflite")
    found = folder.settle()
    assert {(c.path, bool(c.refusal)) for c in found} == {
        (good, False), (folder.path / "face" / "b.tflite", True)
    }  # fmt: skip


def test_one_bad_entry_never_stops_the_scan(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("bad.tflite")
    folder.write("good.tflite")
    real = watch._status

    def failing(path: Path) -> os.stat_result:
        if path.name == "bad.tflite":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(watch, "_status", failing)
    assert folder.settled() == ["good"]


def test_a_flood_of_files_costs_one_bounded_look_and_hides_no_known_name(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_FILES", 5)
    folder.write("served.tflite", b"1")
    assert folder.settled() == ["served"]
    folder.scanner = Scanner(folder.path, SETTLE_S, lambda: folder.now, known=["served"])
    for number in range(20):
        folder.write(f"flood{number:02}.tflite")
    first = folder.scan()
    assert "more than 5 drops" in first.problem
    assert folder.settled() == ["served", *(f"flood{n:02}" for n in range(4))]
    folder.write("served.tflite", b"2")
    assert folder.settled() == ["served"]
    assert folder.scan(after_s=100).removed == ()


def test_names_of_another_case_or_of_hard_links_are_models_of_their_own(folder: Folder) -> None:
    first = folder.write("face.tflite")
    folder.write("Face.tflite", b"another")
    os.link(first, folder.path / "same.tflite")
    assert sorted(folder.settled()) == ["Face", "face", "same"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_refused_without_being_opened(folder: Folder, kind: int) -> None:
    try:
        os.mknod(folder.path / "face.tflite", kind | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("no devices can be made in this container")
    assert "a device" in _refusal(folder)


def test_one_spelling_of_a_name_in_two_normal_forms_is_two_refusals(folder: Folder) -> None:
    for name in ("caf\u00e9", "cafe\u0301"):
        folder.write(f"{name}.tflite")
    found = folder.settle()
    assert len({candidate.name for candidate in found}) == 2
    assert all(candidate.refusal for candidate in found)


def test_a_name_of_255_bytes_is_refused(folder: Folder) -> None:
    folder.write("x" * 248 + ".tflite")
    assert "cannot be a model's" in _refusal(folder)


# ---- removal


def test_a_removed_drop_is_reported_once(folder: Folder) -> None:
    path = folder.write("face.tflite")
    folder.settle()
    path.unlink()
    assert folder.scan() == Scan((), True, ())
    assert folder.scan(after_s=SETTLE_S) == Scan((), False, ("face",))
    assert folder.scan(after_s=SETTLE_S) == Scan((), False, ())
    folder.write("face.tflite")
    assert folder.settled() == ["face"]


def test_removing_and_copying_anew_is_no_removal(folder: Folder) -> None:
    path = folder.write("face.tflite")
    folder.settle()
    path.unlink()
    folder.scan()
    folder.write("face.tflite", b"new")
    scans = [folder.scan(after_s=SETTLE_S), folder.scan(after_s=SETTLE_S)]
    assert [scan.removed for scan in scans] == [(), ()]
    assert [c.name for c in scans[1].settled] == ["face"]


def test_a_drop_that_never_settled_is_not_reported_as_removed(folder: Folder) -> None:
    path = folder.write("face.tflite")
    folder.scan()
    path.unlink()
    assert folder.scan(after_s=10) == Scan((), False, ())


def test_a_drop_folder_that_vanishes_removes_nothing(folder: Folder) -> None:
    folder.write("face.tflite")
    folder.settle()
    shutil.move(folder.path, folder.path.with_name("elsewhere"))
    found = folder.scan(after_s=100)
    assert (found.settled, found.removed) == ((), ())
    assert "No such file" in found.problem
    shutil.move(folder.path.with_name("elsewhere"), folder.path)
    assert folder.scan(after_s=100) == Scan((), False, ())
