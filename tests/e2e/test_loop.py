"""A real daemon whose inputs change: it learns what it may, and nobody can teach it the rest."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.e2e.daemon import Daemon, infer

LOOP = """\
drift: {policy: recalibrate, window: 40, interval_s: 0.1, minimum_interval_s: 0.1}
"""
NIGHT_FACTOR = 3.0  # of the digits' pixels: beyond what the engine was calibrated for


class Camera:
    """A client that sends frames, each a little different, until it is stopped."""

    def __init__(self, daemon: Daemon, images: np.ndarray) -> None:
        self._daemon, self._images = daemon, images
        self._stop = threading.Event()
        self.change: Any = lambda image: image
        self.failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        draw = np.random.default_rng(0)
        client = self._daemon.triton()
        try:
            while not self._stop.is_set():
                image = self._images[draw.integers(len(self._images))]
                frame = self.change(image) + draw.random() * 1e-2
                infer(client, "digits", "image", frame[None].astype(np.float32), "scores")
                time.sleep(0.02)  # a camera's pace, not a rush
        except (OSError, InferenceServerException, AssertionError) as error:
            self.failures.append(error)

    @contextlib.contextmanager
    def running(self) -> Iterator[Camera]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(30)
        assert self.failures == []


def kinds(daemon: Daemon) -> list[str]:
    events = daemon.client.call("history", name="digits")["events"]
    return [event["kind"] for event in events]


@pytest.fixture
def camera(daemon: Daemon, digits: Path, images: np.ndarray) -> Iterator[Camera]:
    """Frames for a daemon that serves an INT8 engine, and no probation any more."""
    text = daemon.config.read_text().replace('drift: {policy: "off"}\n', LOOP)
    text = text.replace("refine: false", "refine: false, mixed_precision: false")
    daemon.config.write_text(text.replace("window_s: 1.0", "window_s: 0.2"))
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    with Camera(daemon, images).running() as camera:
        daemon.wait_served("digits", "cpu-int8")
        daemon.wait("proven", lambda s: s["models"]["digits"]["state"] == "serving")
        yield camera


def test_what_changed_is_learned_and_poison_is_not(daemon: Daemon, camera: Camera):
    camera.change = lambda image: image * NIGHT_FACTOR
    daemon.wait("drift", lambda s: (s["models"]["digits"]["drift"] or {}).get("active", False))
    live = daemon.wait_served("digits", "cpu-int8", not_version="2")["live"]
    assert live["version"] == "3"
    daemon.wait("recalibrated", lambda s: "recalibrated" in kinds(daemon))
    verdict = daemon.root / "state/bundles/digits/3/verdict.json"
    assert '"comparison"' in verdict.read_text()
    # Values that would leave one code for all that was seen before.
    camera.change = lambda image: image * 1000.0
    daemon.wait("refused", lambda s: "recalibration refused" in kinds(daemon))
    model = daemon.status()["models"]["digits"]
    assert model["live"]["version"] == "3"
    assert model["drift"]["active"]
    strata = daemon.client.call("samples", name="digits", action="list")["strata"]
    assert [stratum["name"][:5] for stratum in strata][-2:] == ["since", "since"]
