"""A clock that says 1970 at the start, then the right time, then an earlier one: nothing minds."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer

SET_CLOCK = Path(__file__).resolve().parents[1] / "faults/set_clock"
HOURS_BACK_S = -5 * 3600.0


def jumps(daemon: Daemon) -> float:
    url = f"http://127.0.0.1:{daemon.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as page:
        text = page.read().decode()
    found = re.search(r'edgeq_faults_total{kind="clock_jump"} (\S+)', text)
    assert found is not None
    return float(found[1])


def set_clock(daemon: Daemon, clock: Path, offset_s: float) -> None:
    """Set it, and wait until the daemon has seen it."""
    before = jumps(daemon)
    part = clock.with_suffix(".part")
    part.write_text(str(offset_s))
    part.rename(clock)
    daemon.wait("the jump seen", lambda _: jumps(daemon) == before + 1, within_s=20)


@pytest.mark.slow
def test_a_box_without_a_clock_s_battery_serves_and_keeps_its_order(
    daemon: Daemon, digits: Path, images: np.ndarray, tmp_path: Path
):
    clock = tmp_path / "clock"
    clock.write_text(str(60.0 - time.time()))  # a minute into 1970
    path = os.pathsep.join([str(SET_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"PYTHONPATH": path, "SET_CLOCK": str(clock)}
    daemon.start(environment)
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    assert daemon.status()["now"] < 3600

    set_clock(daemon, clock, 0.0)  # a time server answers: 56 years on
    daemon.drop(digits / "digits_v2.tflite", "digits")
    daemon.wait_served("digits", not_version="1")
    set_clock(daemon, clock, HOURS_BACK_S)
    (daemon.models / "letter.tflite").write_bytes(b"Dear all, the model is elsewhere.\n" * 9)
    daemon.wait("the letter refused", lambda status: bool(status["quarantine"]), within_s=20)
    assert infer(daemon.triton(), "digits", "image", images[:1], "scores")[0] == "2"

    clock.write_text(str(60.0 - time.time()))  # and the next start is in 1970 again
    assert daemon.stop() == 0
    daemon.start(environment)
    history = daemon.client.call("history", name="digits")
    assert history["live"] == "2"
    assert [version["version"] for version in history["versions"]] == [2, 1]
    said = [e["message"] for e in daemon.status()["events"] if e["kind"] == "fault"]
    assert any("was set from 1970" in message for message in said)
    assert not [line for line in daemon.log if "Traceback" in line]
