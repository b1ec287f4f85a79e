from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeq.observe.board import MAX_READINGS, Reading, read_temperatures, sources
from edgeq.observe.board_watch import BoardWatch
from edgeq.observe.metrics import Metrics
from tests.observe import boards

WAIT_S = 10.0


def page(watch: BoardWatch) -> dict[str, dict[str, float]]:
    """Metric -> value of its label -> value, of the board's metrics."""
    metrics = Metrics("0.1.0", "runtime")
    metrics.watch_board(watch.read)
    return {
        family.name: {"".join(s.labels.values()): s.value for s in family.samples}
        for family in text_string_to_metric_families(metrics.page().decode())
        if family.name.startswith(("edgeq_device", "edgeq_state"))
    }


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Path]:
    """A Raspberry Pi whose second sensor hangs for as long as nobody writes to the pipe."""
    root = boards.raspberry_pi(tmp_path)
    zone = root / "sys/class/thermal/thermal_zone1"
    zone.mkdir()
    (zone / "type").write_text("stuck\n")
    os.mkfifo(zone / "temp")
    yield root
    free(root)


def free(root: Path) -> None:
    """Let every read of the pipe end, and wait for the threads that were in it."""
    pipe = root / "sys/class/thermal/thermal_zone1/temp"
    deadline = time.monotonic() + WAIT_S
    while readers() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # nobody reads just now, or has just left
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            with contextlib.closing(os.fdopen(end, "wb", buffering=0)) as writer:
                writer.write(b"77000\n")
        time.sleep(0.001)
    assert not readers()


def readers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "board-temperature"]


# ---- the page


def test_what_a_board_offers_is_on_the_page_and_nothing_else(tmp_path: Path) -> None:
    found = page(BoardWatch(sources(boards.raspberry_pi(tmp_path), tmp_path)))
    assert found["edgeq_device_temperature_celsius"] == {"cpu-thermal": 51.608}
    assert found["edgeq_device_memory_bytes"]["available"] == 3_000_000 * 1024
    assert "edgeq_device_gpu_utilization_ratio" not in found
    assert "edgeq_device_power_watts" not in found
    assert found["edgeq_state_filesystem_available_bytes"][""] > 0
    assert set(found["edgeq_device_source_up"].values()) == {1.0}


def test_a_board_that_offers_nothing_has_answered_all_the_same(tmp_path: Path) -> None:
    found = page(BoardWatch(sources(tmp_path, tmp_path / "gone")))
    assert set(found) == {"edgeq_device_source_up"}
    assert set(found["edgeq_device_source_up"].values()) == {1.0}


def test_places_of_one_name_are_numbered(tmp_path: Path) -> None:
    found = page(BoardWatch(sources(boards.desktop(tmp_path), tmp_path)))
    temperatures = found["edgeq_device_temperature_celsius"]
    assert temperatures["nvme Composite"] == 39.85
    assert temperatures["nvme Composite 2"] == 41.85


def test_a_source_gives_a_bounded_number_of_readings() -> None:
    many = [Reading("device_temperature_celsius", str(n), 1.0) for n in range(1000)]
    readings, _ = BoardWatch({"temperature": lambda: many}).read()
    assert len(readings) == MAX_READINGS


# ---- what hangs


def test_a_read_that_hangs_leaves_out_its_source_alone(stuck: Path) -> None:
    watch = BoardWatch(sources(stuck, stuck), patience_s=0.2)
    started = time.monotonic()
    found = page(watch)
    assert time.monotonic() - started < WAIT_S / 2
    assert "edgeq_device_temperature_celsius" not in found
    assert found["edgeq_device_memory_bytes"]["total"] == 3_884_000 * 1024
    up = found["edgeq_device_source_up"]
    assert up.pop("temperature") == 0.0
    assert set(up.values()) == {1.0}


def test_who_hangs_is_not_asked_again_and_nobody_waits_for_it_twice(stuck: Path) -> None:
    watch = BoardWatch({"temperature": lambda: read_temperatures(stuck)}, patience_s=0.05)
    watch.read()
    started = time.monotonic()
    for _ in range(100):
        assert watch.read() == ([], {"temperature": False})
    assert time.monotonic() - started < 100 * 0.05 / 2
    assert len(readers()) == 1


def test_who_hung_is_asked_again_once_it_has_answered(stuck: Path) -> None:
    watch = BoardWatch({"temperature": lambda: read_temperatures(stuck)}, patience_s=0.05)
    assert watch.read()[1] == {"temperature": False}
    free(stuck)
    (stuck / "sys/class/thermal/thermal_zone1/temp").unlink()
    (stuck / "sys/class/thermal/thermal_zone1/temp").write_text("42000\n")
    readings, answered = watch.read()
    assert answered == {"temperature": True}
    assert [each.value for each in readings] == [51.608, 42.0]


def test_scrapes_at_once_share_one_read() -> None:
    entered, leave = threading.Event(), threading.Event()

    def read() -> list[Reading]:
        entered.set()
        leave.wait(WAIT_S)
        return [Reading("device_temperature_celsius", "cpu", 40.0)]

    watch = BoardWatch({"temperature": read}, patience_s=WAIT_S)
    found: list[list[Reading]] = []
    scrapes = [threading.Thread(target=lambda: found.append(watch.read()[0])) for _ in range(2)]
    scrapes[0].start()
    assert entered.wait(WAIT_S)
    scrapes[1].start()
    leave.set()
    for each in scrapes:
        each.join(WAIT_S)
    assert [[reading.value for reading in readings] for readings in found] == [[40.0], [40.0]]
