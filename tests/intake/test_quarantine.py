from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edgeq import files
from edgeq.errors import DropError, NotFoundError
from edgeq.intake.quarantine import Entry, Quarantine, write_status

CONTENT = b"not a model"
SHA256 = files.sha256_bytes(CONTENT)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    path = tmp_path / "face.tflite"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine", clock=iter(range(1000)).__next__)


def _put(quarantine: Quarantine, source: Path | None, **changes: Any) -> Entry:
    facts = {"name": "face", "sha256": SHA256, "stage": "magic", "error": "bad", "hint": "Fix it."}
    return quarantine.put(source=source, **{**facts, **changes})


def test_an_entry_keeps_the_file_and_the_reason(quarantine: Quarantine, drop: Path) -> None:
    entry = _put(quarantine, drop)
    assert entry.id == f"face-{SHA256[:12]}"
    assert Path(entry.file).read_bytes() == CONTENT
    assert drop.read_bytes() == CONTENT, "a drop is never moved"
    reason = json.loads((quarantine.directory / entry.id / "reason.json").read_text())
    assert reason == {
        "stage": "magic", "error": "bad", "hint": "Fix it.", "time": 0, "name": "face",
        "sha256": SHA256, "bytes": len(CONTENT), "order": 1,
    }  # fmt: skip


def test_a_clock_that_was_set_back_does_not_make_the_newest_the_oldest(tmp_path: Path) -> None:
    now = [2e9]
    quarantine = Quarantine(tmp_path, maximum=2, clock=lambda: now[0])
    for name in ("one", "two", "three"):
        quarantine.put(name, "", None, stage="magic", error=name, hint="")
        now[0] = 0.0 if now[0] > 1e9 else now[0] - 1  # to 1970, and on before it
    assert [entry.name for entry in quarantine.entries()] == ["three", "two"]


def test_putting_twice_is_one_entry(quarantine: Quarantine, drop: Path) -> None:
    _put(quarantine, drop)
    _put(quarantine, drop, stage="load", error="worse")
    assert [(e.stage, e.error) for e in quarantine.entries()] == [("load", "worse")]
    assert len(list(quarantine.directory.iterdir())) == 1


def test_a_file_that_is_gone_the_second_time_is_still_kept(
    quarantine: Quarantine, drop: Path
) -> None:
    _put(quarantine, drop)
    drop.unlink()
    assert Path(_put(quarantine, drop).file).read_bytes() == CONTENT


def test_a_file_that_is_another_one_by_now_is_not_kept(quarantine: Quarantine, drop: Path) -> None:
    drop.write_bytes(b"its successor")
    assert (_put(quarantine, drop).file, _put(quarantine, drop).bytes) == ("", 0)


def test_without_a_digest_the_file_gives_it(quarantine: Quarantine, drop: Path) -> None:
    assert _put(quarantine, drop, sha256="").sha256 == SHA256


@pytest.mark.parametrize("kind", ["none", "missing", "pipe", "link", "folder"])
def test_what_cannot_be_read_is_recorded_by_its_reason(
    quarantine: Quarantine, drop: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(drop)
    elif kind == "folder":
        path.mkdir()
    source = None if kind == "none" else path
    entry = _put(quarantine, source, sha256="")
    assert (entry.file, entry.sha256) == ("", "")
    assert _put(quarantine, source, sha256="").id == entry.id


def test_a_name_can_never_lead_out_of_the_folder(quarantine: Quarantine, drop: Path) -> None:
    entry = _put(quarantine, drop, name="../../etc/x")
    assert (quarantine.directory / entry.id).parent == quarantine.directory
    assert Path(entry.file).resolve().is_relative_to(quarantine.directory.resolve())


def test_entries_are_newest_first_and_the_oldest_go(tmp_path: Path, drop: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", maximum=3, clock=iter(range(1000)).__next__)
    for number in range(5):
        _put(quarantine, None, name=f"m{number}")
    assert [entry.name for entry in quarantine.entries()] == ["m4", "m3", "m2"]


def test_the_bound_in_bytes_removes_the_oldest(tmp_path: Path, drop: Path) -> None:
    limit = 2 * len(CONTENT) + 1
    quarantine = Quarantine(tmp_path / "q", max_bytes=limit, clock=iter(range(1000)).__next__)
    for number in range(4):
        _put(quarantine, drop, name=f"m{number}")
    assert [entry.name for entry in quarantine.entries()] == ["m3", "m2"]


def test_a_file_over_the_bound_is_recorded_without_it(tmp_path: Path, drop: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", max_bytes=3)
    assert _put(quarantine, drop).file == ""


def test_get_and_remove(quarantine: Quarantine, drop: Path) -> None:
    entry = _put(quarantine, drop)
    assert quarantine.get(entry.id) == entry
    quarantine.remove(entry.id)
    assert quarantine.entries() == []
    for id in (entry.id, "..", ""):
        with pytest.raises(NotFoundError, match="in quarantine"):
            quarantine.remove(id)


def test_a_crash_leaves_no_half_entry(
    quarantine: Quarantine, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "publish_directory", crash)
        patched.setattr(files, "remove_tree", lambda _: None)  # as if the process had died
        with pytest.raises(KeyboardInterrupt):
            _put(quarantine, drop)
    assert quarantine.entries() == []
    Quarantine(quarantine.directory)
    assert list(quarantine.directory.iterdir()) == []


def test_a_folder_without_a_reason_is_no_entry(quarantine: Quarantine) -> None:
    (quarantine.directory / "strange").mkdir()
    (quarantine.directory / "half").mkdir()
    (quarantine.directory / "half" / "reason.json").write_text("{")
    assert quarantine.entries() == []


def test_a_full_disk_is_a_drop_error(
    quarantine: Quarantine, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(DropError, match=r"\(bad\).*No space left"):
        _put(quarantine, drop)


# ---- the status beside a drop


def test_the_status_is_written_for_people_who_only_have_the_folder(tmp_path: Path) -> None:
    assert write_status(tmp_path, "face", "quarantined", "3", "bad", "Fix it.")
    path = tmp_path / "face.status.json"
    status = json.loads(path.read_text())
    assert status.pop("time") > 0
    assert status == {"state": "quarantined", "version": "3", "reason": "bad", "hint": "Fix it."}
    assert stat.S_IMODE(path.stat().st_mode) & 0o004 or os.umask(os.umask(0o022)) & 0o004


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    assert not write_status(tmp_path / "missing", "face", "serving", "1", "", "")
