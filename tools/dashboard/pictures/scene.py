"""A day of a model in minutes -> a Prometheus that has seen it.

A drop is served as float, calibrated on its live requests and swapped for INT8; then the camera's
gain changes (each pixel 2.2 times as bright), and a file that is no model is dropped.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.e2e.daemon import Daemon, infer
from tests.e2e.prometheus import Prometheus

DATA = Path(__file__).resolve().parents[3] / "tests" / "data"
SETTINGS = {
    "EDGEQ_DRIFT_POLICY": "recalibrate",
    "EDGEQ_DRIFT_INTERVAL_S": "1",
    "EDGEQ_DRIFT_MINIMUM_INTERVAL_S": "60",
    "EDGEQ_SAMPLES_MINIMUM": "100",
    "EDGEQ_SWAP_PROBATION_WINDOW_S": "15",
}
BRIGHTER = 2.2
CHANGED_AT = 0.45  # of the scene's length
RATE = 30.0  # requests per second, in the mean


@dataclass(frozen=True)
class Scene:
    """Whom to ask, and of which time (Unix seconds)."""

    prometheus: Prometheus
    start: float
    end: float


class Camera:
    """Sends images of digits at a rate that goes up and down, until it is closed."""

    def __init__(self, daemon: Daemon) -> None:
        self.gain = 1.0
        self.failed: list[str] = []
        self._daemon = daemon
        self._images = np.load(DATA / "digits_samples.npz")["x"].astype(np.float32)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")
        self._thread.start()

    def _run(self) -> None:
        client, random = self._daemon.triton(), np.random.default_rng(0)
        while not self._stopping.is_set():
            image = self._images[random.integers(len(self._images))] * np.float32(self.gain)
            try:
                infer(client, "digits", "image", image[None], "scores")
            except Exception as error:  # noqa: BLE001  # the scene says so at its end
                self.failed.append(str(error))
            rate = RATE * (1 + 0.4 * math.sin(time.monotonic() / 25))
            self._stopping.wait(random.exponential(1 / rate))

    def close(self) -> None:
        """Stop asking."""
        self._stopping.set()
        self._thread.join()


@contextmanager
def played(folder: Path, tools: Path, minutes: float) -> Iterator[Scene]:
    """Play it; Prometheus can be asked for as long as the context lasts."""
    daemon = Daemon(folder)
    try:
        daemon.start(SETTINGS)
        target = f"127.0.0.1:{daemon.metrics_port}"
        prometheus = Prometheus(folder, tools, target, every="1s", instance="dock-3")
        try:
            prometheus.wait_up()
            start, end = _play(daemon, minutes * 60.0)
            yield Scene(prometheus, start, end)
        finally:
            prometheus.close()
    finally:
        daemon.close()


def _play(daemon: Daemon, length_s: float) -> tuple[float, float]:
    start = time.time()
    daemon.drop(DATA / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    camera = Camera(daemon)
    try:
        _wait_until(start + CHANGED_AT * length_s)
        camera.gain = BRIGHTER
        (daemon.models / "notes.tflite").write_text("not a model")
        _wait_until(start + length_s)
    finally:
        camera.close()
    for event in reversed(daemon.client.call("history", name="digits")["events"]):
        print(f"{event['time']:.0f} {event['kind']}: {event['message']}")
    print(f"{len(camera.failed)} requests failed", *camera.failed[:3])
    return start - 5, time.time()


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
