"""What lies beside a drop is read only if it is still what the scanner found there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgeq.errors import DropError
from edgeq.intake.companion import read_companion
from edgeq.intake.watch import Stamp


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    path = tmp_path / "face.yaml"
    path.write_bytes(b"method: max\n")
    return path


def refused(path: Path, stamp: Stamp | None) -> DropError:
    with pytest.raises(DropError) as error:
        read_companion(path, stamp, 100)
    assert error.value.hint
    return error.value


def test_what_was_found_is_read_to_its_bound(sidecar: Path):
    stamp = Stamp.of(sidecar.stat())
    assert read_companion(sidecar, stamp, 100) == b"method: max\n"
    assert read_companion(sidecar, stamp, 6) == b"method"
    assert read_companion(sidecar, None, 100) == b"method: max\n"


def test_another_file_in_its_place_is_not_read(sidecar: Path):
    stamp = Stamp.of(sidecar.stat())
    sidecar.rename(sidecar.with_name("old"))
    sidecar.write_bytes(b"method: mse\n")
    assert refused(sidecar, stamp).stage == "settle"


def test_a_link_in_its_place_is_not_followed(sidecar: Path, tmp_path: Path):
    stamp = Stamp.of(sidecar.stat())
    (tmp_path / "secret").write_bytes(b"secret\n")
    sidecar.unlink()
    sidecar.symlink_to(tmp_path / "secret")
    for known in (stamp, None):
        error = refused(sidecar, known)
        assert error.stage == "settle"
        assert "secret" not in error.message


def test_a_folder_swapped_for_a_link_does_not_lead_outside(tmp_path: Path):
    inside, outside = tmp_path / "face", tmp_path / "other"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "model.yaml").write_bytes(b"method: max\n")
    stamp = Stamp.of((inside / "model.yaml").stat())
    inside.rename(tmp_path / "gone")
    inside.symlink_to(outside)
    assert refused(inside / "model.yaml", stamp).stage == "settle"


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "nothing"])
def test_what_is_no_file_never_holds_the_reader_up(
    sidecar: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    stamp = Stamp.of(sidecar.stat())
    sidecar.unlink()
    if kind == "pipe":
        os.mkfifo(sidecar)
    elif kind == "folder":
        sidecar.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(sidecar.parent)  # the path of a socket has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(sidecar.name)
    assert refused(sidecar, stamp).stage in ("settle", "sidecar")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_one_that_may_not_be_read_says_so(sidecar: Path):
    sidecar.chmod(0)
    error = refused(sidecar, Stamp.of(sidecar.stat()))
    assert error.stage == "sidecar"
    assert "Permission denied" in error.message
