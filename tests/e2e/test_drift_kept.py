"""What a real daemon has seen of live frames is there again after kill -9."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.daemon import Daemon, infer

WATCHING = {
    "EDGEQ_DRIFT_POLICY": "alert",
    "EDGEQ_DRIFT_WINDOW": "40",
    "EDGEQ_DRIFT_INTERVAL_S": "0.1",
    "EDGEQ_DRIFT_SAVE_INTERVAL_S": "0.1",
    "EDGEQ_DRIFT_ACTIVATION_INTERVAL_S": "0.001",
}
GAP_S = 0.025  # more than the least between two captures


def drift_of(status: dict[str, Any]) -> dict[str, Any]:
    return status["models"]["digits"]["drift"] or {"active": False, "samples": 0, "tensors": []}


def show(daemon: Daemon, images: np.ndarray) -> None:
    client = daemon.triton()
    for image in images:
        infer(client, "digits", "image", image[None], "scores")
        time.sleep(GAP_S)


def test_a_drift_and_its_windows_are_there_again_after_kill_9(
    daemon: Daemon, digits: Path, images: np.ndarray
):
    kept = daemon.root / "state/drift/digits.npz"
    daemon.start(WATCHING)
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    daemon.wait_served("digits", "cpu-int8")
    show(daemon, images[:60] * np.float32(0.3))
    before = drift_of(daemon.wait("drift", lambda status: drift_of(status)["active"]))
    assert "input 'image'" in before["reason"]
    assert {"input", "activation", "output", "scalar", "classes"} == {
        stream["kind"] for stream in before["tensors"]
    }
    seen = kept.stat().st_mtime_ns if kept.exists() else 0
    show(daemon, images[:2] * np.float32(0.3))
    deadline = time.monotonic() + 20
    while (not kept.exists() or kept.stat().st_mtime_ns == seen) and time.monotonic() < deadline:
        time.sleep(0.05)

    daemon.stop(signal.SIGKILL)
    daemon.start(WATCHING)
    after = drift_of(daemon.wait("the drift again", lambda status: drift_of(status)["active"]))
    assert "input 'image'" in after["reason"]
    assert after["samples"] >= before["samples"]
    faults = after["health"][0]["faults"]
    assert faults["too_dark"] >= before["health"][0]["faults"]["too_dark"]

    assert daemon.stop() == 0
    assert not any("Traceback" in line for line in daemon.log)
