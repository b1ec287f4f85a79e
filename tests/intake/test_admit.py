from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import files
from edgeq.errors import DropError
from edgeq.intake import admit as module
from edgeq.intake import child
from edgeq.intake.admit import AdmitOptions, Admitted, Unchanged, admit
from edgeq.intake.watch import Candidate, Scanner

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:f1cd8dab\nsize 131\n"


class Intake:
    """A drop folder and a staging folder."""

    def __init__(self, path: Path) -> None:
        self.models, self.staging = path / "models", path / "staging"
        self.models.mkdir()

    def drop(self, content: bytes, name: str = "face") -> Candidate:
        (self.models / f"{name}.tflite").write_bytes(content)
        return self.candidate()

    def candidate(self) -> Candidate:
        (candidate,) = Scanner(self.models, settle_s=0).scan().settled
        return candidate

    def admit(self, candidate: Candidate, **options: Any) -> Admitted | Unchanged:
        expected, tried = options.pop("expected", None), options.pop("tried", False)
        return admit(
            candidate,
            self.staging,
            AdmitOptions(**options),
            lambda *_: tried,
            expected_sha256=expected,
        )

    def refuse(self, candidate: Candidate, **options: Any) -> DropError:
        with pytest.raises(DropError) as caught:
            self.admit(candidate, **options)
        assert caught.value.hint, "a refusal says what to do"
        assert not self.staging.exists() or not list(self.staging.iterdir())
        return caught.value


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path)


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: Any) -> None:
        raise AssertionError("the child must not see this file")

    monkeypatch.setattr(module, "run_probe", unexpected)


def test_a_good_model_is_copied_and_described(intake: Intake, tiny_model_bytes: bytes) -> None:
    candidate = intake.drop(tiny_model_bytes)
    admitted = intake.admit(candidate)
    assert isinstance(admitted, Admitted)
    assert admitted.path.parent == intake.staging
    assert admitted.path.read_bytes() == candidate.path.read_bytes() == tiny_model_bytes
    assert admitted.sha256 == files.sha256_bytes(tiny_model_bytes)
    assert (admitted.name, admitted.bytes) == ("face", len(tiny_model_bytes))
    assert [spec.name for spec in admitted.probe.inputs] == ["image"]


@pytest.mark.usefixtures("no_probe")
def test_bytes_that_were_tried_are_not_tried_again(intake: Intake, tiny_model_bytes: bytes) -> None:
    outcome = intake.admit(intake.drop(tiny_model_bytes), tried=True)
    assert outcome == Unchanged("face", files.sha256_bytes(tiny_model_bytes))
    assert list(intake.staging.iterdir()) == []


def test_the_digest_of_the_sidecar_is_met_in_any_case(
    intake: Intake, tiny_model_bytes: bytes
) -> None:
    expected = files.sha256_bytes(tiny_model_bytes).upper()
    assert isinstance(intake.admit(intake.drop(tiny_model_bytes), expected=expected), Admitted)


@pytest.mark.usefixtures("no_probe")
def test_another_digest_than_the_sidecars_is_refused(
    intake: Intake, tiny_model_bytes: bytes
) -> None:
    error = intake.refuse(intake.drop(tiny_model_bytes), expected="0" * 64, tried=True)
    assert error.stage == "digest"
    assert error.sha256 == "", "the sidecar may be what is wrong"


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize(
    ("content", "stage", "what"),
    [
        (b"", "size", "empty"),
        (b"just some text\n" * 10, "magic", "text"),
        (LFS_POINTER, "magic", "Git LFS"),
        (b"<!DOCTYPE html>", "magic", "HTML"),
        (b"PK\x03\x04\x00\x00", "magic", "zip"),
        (b"\x08\x08\x12\x07pytorch", "magic", "ONNX"),
        (random.Random(0).randbytes(5000), "magic", "not a TFLite model"),
    ],
)
def test_what_is_no_model_never_reaches_the_child(
    intake: Intake, content: bytes, stage: str, what: str
) -> None:
    error = intake.refuse(intake.drop(content))
    assert error.stage == stage
    assert what in error.message
    assert error.sha256 == files.sha256_bytes(content)


@pytest.mark.usefixtures("no_probe")
def test_a_file_over_the_limit_is_not_copied(intake: Intake) -> None:
    error = intake.refuse(intake.drop(b"x" * 1001), max_model_bytes=1000)
    assert (error.stage, error.sha256) == ("size", "")
    assert "1001 bytes; at most 1000" in error.message


def test_a_truncated_model_is_refused_by_its_structure(
    intake: Intake, tiny_model_bytes: bytes
) -> None:
    error = intake.refuse(intake.drop(tiny_model_bytes[: len(tiny_model_bytes) // 2]))
    assert error.stage == "structure"
    assert error.sha256


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("kind", ["pipe", "outside", "folder", "name"])
def test_what_the_scanner_refuses_is_never_opened(
    intake: Intake, tmp_path: Path, kind: str
) -> None:
    path = intake.models / ("a b.tflite" if kind == "name" else "face.tflite")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "outside":
        (tmp_path / "secret").write_bytes(b"secret")
        path.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x")
    assert intake.refuse(intake.candidate()).stage == "name"


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("kind", ["gone", "pipe", "link", "rewritten"])
def test_a_drop_that_changed_since_the_scan_has_not_settled(
    intake: Intake, tmp_path: Path, kind: str
) -> None:
    candidate = intake.drop(b"x" * 100)
    if kind != "rewritten":
        candidate.path.unlink()
    if kind == "pipe":
        os.mkfifo(candidate.path)
    elif kind == "link":
        candidate.path.symlink_to("/etc/passwd")
    elif kind == "rewritten":
        candidate.path.write_bytes(b"y" * 100)
    assert intake.refuse(candidate).stage == "settle"


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"y" * 100)
    path.with_name("new").rename(path)


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize("change", [_append, _replace, Path.unlink])
def test_a_drop_that_changes_during_the_copy_has_not_settled(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    candidate = intake.drop(b"x" * 100)
    real = files.copy_durably

    def slow(source: Any, target: Path, *, max_bytes: int) -> Any:
        copied = real(source, target, max_bytes=max_bytes)
        change(candidate.path)
        return copied

    monkeypatch.setattr(files, "copy_durably", slow)
    assert intake.refuse(candidate).stage == "settle"


@pytest.mark.usefixtures("no_probe")
def test_a_full_disk_is_a_copy_error(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "copy_durably", full)
    error = intake.refuse(intake.drop(b"x"))
    assert error.stage == "copy"
    assert "No space left" in error.message


def test_a_crash_of_the_child_is_a_reason_with_the_digest(
    intake: Intake, tiny_model_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "probe_command", lambda *_: ["/bin/sh", "-c", "kill -SEGV $$"])
    error = intake.refuse(intake.drop(tiny_model_bytes))
    assert (error.stage, error.sha256) == ("probe", files.sha256_bytes(tiny_model_bytes))
    assert "SIGSEGV" in error.message


def test_a_slow_writer_in_20_pieces_is_admitted_whole(
    intake: Intake, tiny_model_bytes: bytes
) -> None:
    path, size = intake.models / "face.tflite", len(tiny_model_bytes)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for piece in range(20):
                file.write(tiny_model_bytes[size * piece // 20 : size * (piece + 1) // 20])
                threading.Event().wait(0.02)

    scanner = Scanner(intake.models, settle_s=0.2)
    writer = threading.Thread(target=write)
    writer.start()
    while not (settled := scanner.scan().settled):
        threading.Event().wait(0.01)
    writer.join()
    admitted = intake.admit(settled[0])
    assert isinstance(admitted, Admitted)
    assert admitted.bytes == size


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_kills_the_parent_and_each_has_a_reason(
    intake: Intake, tiny_model_bytes: bytes, seed: int
) -> None:
    choose, content = random.Random(seed), bytearray(tiny_model_bytes)
    if is_cut := bool(seed % 2):
        content = content[: choose.randrange(8, len(content))]
    for _ in range(0 if is_cut else choose.randint(1, 8)):
        content[choose.randrange(8, len(content))] = choose.randrange(256)
    candidate = intake.drop(bytes(content))
    try:
        outcome: Admitted | Unchanged | DropError = intake.admit(candidate)
    except DropError as error:
        outcome = error
    if isinstance(outcome, DropError):
        assert outcome.stage in ("structure", "load", "run")
    else:
        assert not is_cut, "a cut file is never admitted"
