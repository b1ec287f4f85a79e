"""What the service manager and Prometheus see of a real daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer


def metrics_page(daemon: Daemon) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics_port}/metrics") as response:
        return str(response.read().decode())


def test_the_metrics_of_a_daemon_at_work_are_clean_and_move(
    daemon: Daemon, digits: Path, images: np.ndarray, prometheus_tools: Path
):
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    client = daemon.triton()
    for image in images[:30]:
        infer(client, "digits", "image", image[None], "scores")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    daemon.wait_served("digits", "cpu-int8")
    infer(client, "digits", "image", images[:1], "scores")
    (daemon.models / "bad.tflite").write_bytes(b"not a model")
    daemon.wait("quarantined", lambda s: bool(s["quarantine"]))
    page = metrics_page(daemon)
    command = [prometheus_tools / "promtool", "check", "metrics"]
    checked = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    for line in (
        'edgeq_requests_total{code="200",model="digits",protocol="http",version="1"} 30.0',
        'edgeq_swaps_total{model="digits",outcome="committed"} 2.0',
        'edgeq_swaps_total{model="digits",outcome="rolled_back"} 0.0',
        'edgeq_builds_total{model="digits",outcome="succeeded"} 1.0',
        'edgeq_drops_total{outcome="quarantined"} 1.0',
        'edgeq_queue_length{model="digits"} 0.0',
    ):
        assert line in page
    assert 'edgeq_model_info{engine="cpu-int8"' in page
    assert 'edgeq_build_duration_seconds_count{model="digits",stage="calibrate"} 1.0' in page
    assert 'edgeq_samples{model="digits",set="held_out"}' in page


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
