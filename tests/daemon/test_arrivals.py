"""A flooded drop folder neither takes the box's time nor holds up what serves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeq.daemon.arrivals import PENDING_SCAN_S, SCAN_SHARE, Arrivals
from edgeq.intake.hints import EventHints
from edgeq.intake.watch import Scanner

RESCAN_S = 10.0


class Door:
    """Arrivals of a folder; `served` are the names that serve."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.served: set[str] = set()
        self.told: list[str] = []
        scanner, hints = Scanner(models, 0.0), EventHints(models, lambda: None)
        self.arrivals = Arrivals(
            scanner,
            hints,
            lambda name: name in self.served,
            lambda: self.told.append("arrival"),
            self.told.append,
        )

    def write(self, name: str, content: bytes = b"model") -> Path:
        path = self.models / f"{name}.tflite"
        path.write_bytes(content)
        return path

    def look(self) -> float:
        self.arrivals._rests_until = 0.0
        return self.arrivals.look(RESCAN_S)

    def taken(self) -> list[str]:
        found = []
        while (candidate := self.arrivals.take()) is not None:
            found.append(candidate.name)
        return found


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_what_serves_passes_what_came_before_it(door: Door):
    for number in range(5):
        door.write(f"flood{number}")
    door.look()
    door.served = {"zebra"}
    door.write("zebra")
    door.look()
    assert door.taken() == ["zebra", *(f"flood{number}" for number in range(5))]
    assert door.told == ["arrival"] * 6


def test_a_file_that_is_written_again_while_it_waits_is_taken_once(door: Door):
    for content in (b"1", b"22", b"333"):
        door.write("face", content)
        door.look()
    assert door.told == ["arrival"] * 3
    candidate = door.arrivals.take()
    assert candidate is not None
    assert candidate.fingerprint.model.size == 3
    assert door.arrivals.take() is None


def test_a_removal_is_told_by_its_name(door: Door):
    path = door.write("face")
    door.look()
    path.unlink()
    door.look()
    assert door.told == ["arrival", "face"]


def test_looks_take_a_tenth_of_the_time_whatever_events_say(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    scan = door.arrivals._scanner.scan

    def slow():
        now[0] += 2.0
        return scan()

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(door.arrivals._scanner, "scan", slow)
    assert door.arrivals.look(RESCAN_S) == pytest.approx(2.0 / SCAN_SHARE)
    door.write("face")
    assert door.arrivals.look(RESCAN_S) == pytest.approx(2.0 / SCAN_SHARE)
    assert door.told == []
    now[0] += 2.0 / SCAN_SHARE
    door.arrivals.look(RESCAN_S)
    assert door.told == ["arrival"]


def test_an_empty_folder_is_looked_at_as_often_as_it_says(door: Door):
    assert door.look() == RESCAN_S
    door.arrivals._scanner._settle_s = 60.0
    door.write("face")
    assert door.look() == PENDING_SCAN_S


def test_a_folder_that_is_gone_is_said_once(door: Door, caplog: pytest.LogCaptureFixture):
    door.models.rmdir()
    door.look()
    door.look()
    door.models.mkdir()
    door.look()
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "cannot be read" in said[0]
    assert said[1] == "drop folder: readable again"
