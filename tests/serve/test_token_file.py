from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.errors import ConfigError
from edgeq.serve.rights import Peer, Purpose, Rights
from edgeq.serve.token_file import LOOK_INTERVAL_S, TokenFile


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\nnot this\n")
    return path


def test_the_first_line_is_the_token(path: Path) -> None:
    assert TokenFile(path).token() == "first"


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"  \n", b"\xff\xfe"])
def test_a_file_without_a_token_is_an_error_that_names_it(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        TokenFile(path)
    assert "one line of random characters" in caught.value.hint


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none cannot be read: .*No such file"):
        TokenFile(tmp_path / "none")


def test_a_new_token_counts_within_a_second_and_the_old_one_no_more(path: Path) -> None:
    clock = Clock()
    rights, stranger = Rights(TokenFile(path, clock)), Peer(is_unix=False, is_loopback=False)
    path.write_text("second")
    rights.check(Purpose.USE, stranger, "Bearer first")  # not looked at yet
    clock.now = LOOK_INTERVAL_S
    rights.check(Purpose.USE, stranger, "Bearer second")
    with pytest.raises(Exception, match="no valid token"):
        rights.check(Purpose.USE, stranger, "Bearer first")


def test_the_file_is_looked_at_once_a_second_at_most(path: Path, monkeypatch) -> None:
    clock, looks = Clock(), []
    token_file = TokenFile(path, clock)
    monkeypatch.setattr("edgeq.files.fingerprint", lambda path: looks.append(path) or ())
    for clock.now in (0.1, 0.9, 1.0, 1.5, 1.9, 2.0):
        token_file.token()
    assert len(looks) == 2


@pytest.mark.parametrize("content", ["", None])
def test_a_rotation_that_passes_through_no_token_opens_nothing(
    content: str | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    token_file = TokenFile(path, clock)
    path.unlink() if content is None else path.write_text(content)
    for clock.now in (1.0, 2.0, 3.0):
        assert token_file.token() == "first"
    assert len(caplog.records) == 1  # said once
    assert "the last token stays in force" in caplog.text
    path.write_text("second")
    clock.now = 4.0
    assert token_file.token() == "second"


def test_a_file_replaced_by_a_rename_is_seen_though_size_and_time_are_the_same(path: Path) -> None:
    clock = Clock()
    token_file = TokenFile(path, clock)
    other = path.with_name("new")
    other.write_text("other\nnot this\n")
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    clock.now = 1.0
    assert token_file.token() == "other"
