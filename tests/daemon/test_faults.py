from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeq.daemon.faults import EVENT_INTERVAL_S, HINTS, LOG_INTERVAL_S, Faults, kind_of
from edgeq.errors import RegistryError, SampleError
from edgeq.observe.metrics import FAULT_KINDS, Metrics
from edgeq.registry import Event, Registry


@dataclass
class Box:
    """Faults over a real registry; `now` is what its clock says."""

    registry: Registry
    metrics: Metrics
    folder: Path
    now: float = 0.0

    def __post_init__(self) -> None:
        self.faults = Faults(self.registry, self.metrics, self.folder, lambda: self.now)

    def events(self) -> list[Event]:
        """What the registry has of faults, oldest first."""
        self.faults.write_events()
        return [event for event in reversed(self.registry.events()) if event.kind == "fault"]

    def count(self, kind: str) -> float:
        """What the counter says."""
        found = self.metrics.registry.get_sample_value("edgeq_faults_total", {"kind": kind})
        assert found is not None
        return found


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    registry = Registry(tmp_path / "edgeq.db")
    yield Box(registry, Metrics("0", "test"), tmp_path)
    registry.close()


# ---- what an error tells of


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EIO, "io_error"),
        (errno.EAGAIN, "fork_failed"),
        (errno.ENOMEM, "out_of_memory"),
        (errno.EMFILE, "out_of_descriptors"),
        (errno.ENFILE, "out_of_descriptors"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
    ],
)
def test_the_kernel_s_number_names_the_fault(number, kind):
    assert kind_of(OSError(number, os.strerror(number))) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), "disk_full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read_only"),
        (sqlite3.OperationalError("disk I/O error"), "io_error"),
        (sqlite3.OperationalError("no such table: x"), None),
        (RuntimeError("can't start new thread"), "fork_failed"),
        (MemoryError(), "out_of_memory"),
        (ValueError("database or disk is full"), None),
    ],
)
def test_errors_without_a_number_are_known_by_their_words(error, kind):
    assert kind_of(error) == kind


def test_an_error_tells_of_the_fault_that_caused_it():
    error = SampleError("not stored")
    error.__cause__ = OSError(errno.EROFS, "Read-only file system")
    assert kind_of(error) == "read_only"
    assert kind_of(SampleError("of another shape")) is None


def test_a_full_disk_without_inodes_is_named_so(monkeypatch, tmp_path):
    found = SimpleNamespace(f_files=100, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert kind_of(OSError(errno.ENOSPC, "full"), tmp_path) == "out_of_inodes"
    found.f_favail = 1
    assert kind_of(OSError(errno.ENOSPC, "full"), tmp_path) == "disk_full"
    found.f_files = found.f_favail = 0  # btrfs has no inodes to run out of
    assert kind_of(OSError(errno.ENOSPC, "full"), tmp_path) == "disk_full"


def test_every_kind_has_a_hint():
    assert set(HINTS) == set(FAULT_KINDS)


# ---- what is told of it


def test_a_fault_is_counted_logged_and_recorded_with_its_hint(box, caplog):
    error = OSError(errno.ENOSPC, "No space left on device")
    assert box.faults.note_error(error, "sample not stored", model="face") == "disk_full"
    (event,) = box.events()
    assert (event.name, event.kind) == ("face", "fault")
    assert event.message == ("disk_full: sample not stored: [Errno 28] No space left on device")
    assert event.fields["fault"] == "disk_full"
    assert event.fields["count"] == 1
    assert event.fields["hint"] == HINTS["disk_full"]
    (line,) = caplog.records
    assert (line.levelname, line.model, line.hint) == ("ERROR", "face", HINTS["disk_full"])
    assert box.count("disk_full") == 1


def test_an_error_that_is_no_fault_of_the_box_is_not_noted(box):
    assert box.faults.note_error(ValueError("another matter")) is None
    assert box.events() == []
    assert sum(box.count(kind) for kind in FAULT_KINDS) == 0


def test_a_fault_that_lasts_is_one_event_an_hour_and_a_line_a_minute(box, caplog):
    for second in range(3 * 3600):
        box.now = float(second)
        box.faults.note("disk_full", f"at second {second}")
        box.faults.write_events()
    events = box.events()
    assert [event.fields["count"] for event in events] == [1, 3600, 3600]
    assert box.count("disk_full") == 3 * 3600
    assert len(caplog.records) == 3 * 3600 / LOG_INTERVAL_S


def test_kinds_do_not_wait_for_each_other(box):
    box.faults.note("disk_full", "no sample")
    box.faults.note("fork_failed", "no build")
    assert {event.fields["fault"] for event in box.events()} == {"disk_full", "fork_failed"}


def test_an_event_that_the_registry_refuses_is_written_when_it_takes_it_again(box, monkeypatch):
    def refuse(*arguments: object, **fields: object) -> None:
        raise RegistryError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(box.registry, "record", refuse)
        box.faults.note("disk_full", "first")
        box.faults.write_events()
        box.faults.note("disk_full", "second")
    assert box.events() == []  # it is not asked again at once
    box.now += 10.0
    (event,) = box.events()
    assert (event.message, event.fields["count"]) == ("disk_full: second", 2)


def test_what_was_only_counted_is_written_when_the_daemon_ends(box):
    box.faults.note("io_error", "first")
    box.faults.write_events()
    box.faults.note("io_error", "second")
    box.now += EVENT_INTERVAL_S / 2
    assert len(box.events()) == 1
    box.faults.write_events(is_last=True)
    assert [event.message for event in box.events()] == ["io_error: first", "io_error: second"]


def test_no_fault_is_lost_when_threads_note_them_while_events_are_written(box):
    def note() -> None:
        for _ in range(200):
            box.faults.note("io_error", "read")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        box.now += EVENT_INTERVAL_S
        box.faults.write_events()
    for thread in threads:
        thread.join()
    box.faults.write_events(is_last=True)
    assert sum(event.fields["count"] for event in box.events()) == box.count("io_error") == 800
