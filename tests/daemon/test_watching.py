"""The watch over what serves: made with a version, written now and then, taken up by a start."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.bundle import Bundle
from edgeq.daemon.capture import Capture
from edgeq.daemon.deployment import Deployment
from edgeq.daemon.drift import DriftWatch
from edgeq.daemon.status import status
from edgeq.daemon.watching import WatchKeeper, save_watch, watch_over
from edgeq.drift.health import FAULTS
from edgeq.drift.kept import from_npz, to_npz
from edgeq.swap import Inference
from tests.daemon.conftest import House, install

Arrays = dict[str, np.ndarray]


@pytest.fixture
def serving(house: House, digits: Path, built: Path) -> Deployment:
    """Version 2 of the digits model, INT8."""
    house.drop(digits / "digits.tflite")
    return install(house, built)


def kept(house: House) -> Path:
    return house.context.paths.drift("digits")


def restart(house: House, deployment: Deployment) -> None:
    """Give the deployment a new watch, as a start does."""
    bundle = house.context.paths.bundle("digits", int(deployment.version))
    watch_over(house.context, deployment, Bundle.open(bundle))


def dark(images: list[Arrays]) -> list[Arrays]:
    return [{"image": image["image"] * np.float32(0.3)} for image in images]


def test_what_was_seen_is_written_and_taken_up_again(
    house: House, serving: Deployment, images: list[Arrays]
):
    house.see(dark(images))
    DriftWatch(house.context, house.deployer).check(serving)
    assert serving.drift is not None
    assert serving.drift.active
    before = serving.drift
    save_watch(house.context, serving)
    restart(house, serving)
    assert serving.drift is not None
    assert serving.drift.active
    assert serving.drift.tensors == before.tensors


def test_a_version_with_another_reference_begins_anew(
    house: House, serving: Deployment, images: list[Arrays]
):
    house.see(images[:3])
    other = replace(from_npz(serving.monitor.to_npz()), reference="0" * 64)
    kept(house).parent.mkdir()
    kept(house).write_bytes(to_npz(other))
    restart(house, serving)
    assert serving.drift is None
    assert serving.monitor.check().tensors == ()


def test_a_damaged_file_is_told_of_and_costs_the_windows_only(
    house: House, serving: Deployment, images: list[Arrays], caplog: pytest.LogCaptureFixture
):
    house.see(images[:3])
    save_watch(house.context, serving)
    kept(house).write_bytes(kept(house).read_bytes()[:-50])
    with caplog.at_level(logging.WARNING):
        restart(house, serving)
    assert "drift windows not taken up" in caplog.text
    assert serving.drift is None
    house.see(images[:3])  # and it watches on


def test_a_disk_that_refuses_is_told_of(
    house: House, serving: Deployment, caplog: pytest.LogCaptureFixture
):
    kept(house).parent.parent.joinpath("drift").write_text("a file where the folder should be")
    save_watch(house.context, serving)
    assert "drift windows not written" in caplog.text


def test_it_is_written_only_when_it_is_time_and_frames_came(
    house: House, serving: Deployment, images: list[Arrays], monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr("edgeq.daemon.watching.time.monotonic", lambda: now[0])
    keeper = WatchKeeper(house.context)
    house.see(images[:1])
    keeper.keep(serving)
    assert not kept(house).exists()  # not yet
    now[0] += house.context.config.drift.save_interval_s
    keeper.keep(serving)
    written = kept(house).stat().st_mtime_ns
    now[0] += 1000.0
    keeper.keep(serving)
    assert kept(house).stat().st_mtime_ns == written  # no frame came


def test_a_frame_of_the_version_before_is_not_counted(
    house: House, serving: Deployment, images: list[Arrays]
):
    capture = Capture(lambda _: None)
    outputs = {"scores": np.full((1, 10), 0.1, "f4")}
    capture.offer(serving, images[0], Inference(outputs, "1", "float"), 1.0)
    capture.stop()
    capture.run()
    assert serving.monitor.frames == 0
    assert len(serving.store) == 1


def test_a_failure_that_nobody_thought_of_ends_no_capture(
    house: House,
    serving: Deployment,
    images: list[Arrays],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(serving.monitor, "see", lambda *_: 1 / 0)
    capture = Capture(lambda _: None)
    outputs = {"scores": np.full((1, 10), 0.1, "f4")}
    capture.offer(serving, images[0], Inference(outputs, serving.version, "cpu-int8"), 1.0)
    capture.stop()
    capture.run()
    assert "capture failed" in caplog.text


def test_a_model_that_is_unloaded_keeps_what_was_seen(
    house: House, serving: Deployment, images: list[Arrays]
):
    house.see(images[:5])
    house.deployer.unload("digits")
    house.deployer.load("digits")
    again = house.deployer.deployments["digits"]
    assert again is not serving
    assert again.drift is not None
    assert again.drift.frames == pytest.approx(5.0, rel=0.05)


def test_activations_that_cannot_be_looked_at_are_told_of_once(
    house: House, serving: Deployment, caplog: pytest.LogCaptureFixture
):
    keeper = WatchKeeper(house.context)
    serving.monitor.problem = "refused"
    for _ in range(3):
        keeper.keep(serving)
    assert caplog.text.count("activations are not looked at any more") == 1


def test_without_a_reference_or_with_a_damaged_one_it_serves_unwatched(
    house: House, serving: Deployment, caplog: pytest.LogCaptureFixture
):
    class Damaged:
        manifest = type("Manifest", (), {"name": "digits"})
        has = staticmethod(lambda name: True)
        read = staticmethod(lambda name: b"damaged")
        read_if_there = staticmethod(lambda name: None)

    watch_over(house.context, serving, Damaged())
    assert serving.monitor is None
    assert "drift is not watched" in caplog.text


def test_the_status_and_the_metrics_show_streams_and_health(
    house: House, serving: Deployment, images: list[Arrays]
):
    house.see([images[0], *images])  # the first one twice
    DriftWatch(house.context, house.deployer).check(serving)
    shown: dict[str, Any] = status(house.context, [serving], 0.0)["models"]["digits"]["drift"]
    streams = {stream["tensor"]: stream for stream in shown["tensors"]}
    assert {"image", "image/brightness", "scores", "scores/class"} <= set(streams)
    assert all(np.isfinite(s["threshold"]) for s in streams.values() if s["threshold"] is not None)
    (health,) = shown["health"]
    assert (health["tensor"], set(health["faults"])) == ("image", set(FAULTS))
    page = house.context.metrics.page().decode()
    for line in (
        'edgeq_input_health_total{fault="stuck",model="digits",tensor="image"} 1.0',
        'edgeq_input_health_total{fault="not_finite",model="digits",tensor="image"} 0.0',
        'edgeq_input_identical_frames{model="digits",tensor="image"} 0.0',
        'edgeq_drift_stream_samples{model="digits",tensor="scores/class"}',
        'edgeq_saturation_ratio{model="digits",rail="high",tensor="image"}',
        'edgeq_saturation_reference_ratio{model="digits",rail="high",tensor="image"}',
        'edgeq_scale_drift_ratio{model="digits",tensor="image"}',
        'edgeq_drift_threshold{model="digits",statistic="saturation_high",tensor="image"}',
    ):
        assert line in page
    assert 'edgeq_drift_ks_ratio{model="digits",tensor="scores/class"}' not in page  # no order
    assert 'edgeq_saturation_ratio{model="digits",rail="low",tensor="scores/class"}' not in page
