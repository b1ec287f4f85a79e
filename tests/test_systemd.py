"""The datagrams that sd_notify(3) describes, received by a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.systemd import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A bound datagram socket and the text that NOTIFY_SOCKET would hold."""
    name = f"@edgeq-{os.getpid()}-{tmp_path.name}"
    address = name if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(2)
        yield sock, address


def test_states_travel_in_one_datagram(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    Notifier(address).notify(READY=1, STATUS="serving 2 models")
    assert sock.recv(4096) == b"READY=1\nSTATUS=serving 2 models"


def test_a_newline_in_a_status_cannot_forge_a_state(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    Notifier(address).notify(STATUS="failed:\nMAINPID=1")
    assert sock.recv(4096) == b"STATUS=failed: MAINPID=1"


def test_a_reload_carries_the_monotonic_clock(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    Notifier(address).reloading()
    first, second = sock.recv(4096).decode().split("\n")
    key, value = second.split("=")
    assert (first, key) == ("RELOADING=1", "MONOTONIC_USEC")
    assert abs(int(value) / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)) < 5


def test_the_socket_is_taken_from_the_environment_and_not_left_for_children(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier.from_environment().notify(STOPPING=1)
    assert sock.recv(4096) == b"STOPPING=1"
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier.from_environment().notify(READY=1)
    Notifier("").notify(READY=1)


def test_a_manager_that_went_away_does_not_take_the_service_with_it(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone")).notify(WATCHDOG=1)
    Notifier("x" * 200).notify(WATCHDOG=1)  # longer than an address may be


@pytest.mark.parametrize(
    ("limit_us", "pid", "expected"),
    [
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
        (None, "own", None),
        ("", None, None),
        ("soon", None, None),
        ("-5", None, None),
        ("0", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_limit(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, expected: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert watchdog_interval_s() == expected
