"""Each wait is twice the one before it, is bounded, and outlives a restart where it is kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.daemon.retries import Retries

Make = Callable[[], Retries]


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "again.json"


@pytest.fixture
def make(path: Path, now: list[float]) -> Make:
    return lambda: Retries(60.0, 1000.0, lambda: now[0], path)


def test_waits_double_up_to_a_bound(make: Make) -> None:
    retries = make()
    assert [retries.postpone("face") for _ in range(6)] == [60, 120, 240, 480, 960, 1000]
    assert retries.tries("face") == 6
    retries.forget("face")
    assert retries.postpone("face") == 60


def test_a_restart_is_no_way_around_a_wait(make: Make, now: list[float]) -> None:
    first = make()
    first.postpone("face")
    first.postpone("face")
    now[0] = 5.0  # another process, whose clock begins anew
    later = make()
    assert later.is_waiting("face")
    assert later.due_in_s("face") == pytest.approx(120.0, abs=5.0)
    assert later.tries("face") == 2
    now[0] += 121.0
    assert later.take_due() == ["face"]
    assert later.postpone("face") == 240.0


def test_no_clock_makes_a_wait_longer_than_it_was(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().postpone("face")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 1e9)
    assert make().due_in_s("face") == 60.0
    monkeypatch.setattr(time, "time", lambda: clock() + 1e9)
    assert make().due_in_s("face") == 0.0


def test_what_is_forgotten_is_gone_for_the_next_process_too(make: Make, path: Path) -> None:
    retries = make()
    retries.postpone("face")
    assert list(json.loads(path.read_bytes())) == ["face"]
    retries.forget("face")
    assert not path.exists()
    assert make().due_in_s("face") is None


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"face": 3}', b'{"face": {"wait_s": "x"}}'])
def test_a_file_that_cannot_be_read_keeps_nobody_waiting(
    make: Make, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    assert not make().is_waiting("face")


def test_a_disk_that_refuses_the_file_is_no_error(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    retries = make()
    assert retries.postpone("face") == 60.0
    assert retries.is_waiting("face")
