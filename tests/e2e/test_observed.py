"""What the service manager sees of a real daemon."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def heard(manager: socket.socket, word: str) -> str:
    """Return the first datagram with this word."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        datagram = manager.recv(4096).decode()
        if word in datagram:
            return datagram
    raise AssertionError(f"{word} was not heard")


def test_the_service_manager_hears_ready_watchdog_reload_and_stop(
    daemon: Daemon, manager: socket.socket, tmp_path: Path
):
    address = str(tmp_path / "notify")
    daemon.start({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"})
    ready = heard(manager, "READY=1")
    assert "STATUS=" in ready
    times = []
    for _ in range(3):
        heard(manager, "WATCHDOG=1")
        times.append(time.monotonic())
    assert times[-1] - times[0] < 1.0
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGHUP)
    assert "MONOTONIC_USEC=" in heard(manager, "RELOADING=1")
    heard(manager, "READY=1")
    assert daemon.stop() == 0
    heard(manager, "STOPPING=1")
