"""What happens in the drop folder gives a hint to look there, whatever becomes of the folder."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from edgeq.intake import hints as hints_of
from edgeq.intake.hints import EventHints
from edgeq.intake.quarantine import write_status


@pytest.fixture
def hinted(tmp_path: Path) -> Any:
    event = threading.Event()
    hints = EventHints(tmp_path / "new" / "models", event.set)
    assert hints.start()
    yield tmp_path / "new" / "models", event
    hints.stop()


def test_a_new_file_gives_a_hint_in_a_folder_made_for_it(hinted: Any) -> None:
    models, event = hinted
    (models / "face.tflite").write_bytes(b"model")
    assert event.wait(5)


def test_a_rename_into_the_folder_gives_a_hint(hinted: Any, tmp_path: Path) -> None:
    models, event = hinted
    (tmp_path / "face").write_bytes(b"model")
    (tmp_path / "face").rename(models / "face.tflite")
    assert event.wait(5)


def test_reading_and_the_daemons_own_status_give_no_hint(hinted: Any) -> None:
    models, event = hinted
    (models / "face.tflite").write_bytes(b"model")
    assert event.wait(5)
    while event.wait(0.3):
        event.clear()
    (models / "face.tflite").read_bytes()
    assert write_status(models, "face", "serving", "1", "", "")
    assert not event.wait(0.3)


@pytest.mark.parametrize("step", ["__init__", "schedule", "start"])
def test_without_events_the_reason_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(hints_of.Observer, step, exhausted)
    hints = EventHints(tmp_path, lambda: None)
    assert not hints.start()
    assert "inotify watch limit reached" in hints.problem
    hints.stop()


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_that_is_made_again_is_watched_again(tmp_path: Path, is_link: bool) -> None:
    models, event = tmp_path / "models", threading.Event()
    hints = EventHints(models, event.set)
    assert hints.start()
    try:
        hints.keep()
        shutil.rmtree(models)
        assert event.wait(5)
        hints.keep()  # while it is gone, there is nothing to watch
        if is_link:
            (tmp_path / "other").mkdir()
            models.symlink_to(tmp_path / "other")
        else:
            models.mkdir()  # it may well have the inode that became free
        hints.keep()
        event.clear()
        (models / "face.tflite").write_bytes(b"model")
        assert event.wait(5)
    finally:
        hints.stop()


def test_a_watch_that_was_never_started_is_not_kept(tmp_path: Path) -> None:
    hints = EventHints(tmp_path, lambda: None)
    hints.keep()
    hints.stop()
