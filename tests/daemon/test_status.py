from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from edgeq.daemon.status import status
from edgeq.observe.page import Page
from tests.daemon.conftest import House, install


def status_of(house: House) -> dict[str, Any]:
    """What `GET /edgeq/status` would answer."""
    deployments = list(house.deployer.deployments.values())
    answered: dict[str, Any] = orjson.loads(orjson.dumps(status(house.context, deployments, 5.0)))
    return answered


def test_the_status_tells_versions_health_and_the_last_hour(
    house: House, digits: Path, images: list[dict[str, np.ndarray]]
):
    deployment = house.drop(digits / "digits.tflite")
    deployment.series.tick(time.time() - 20, deployment.slot.live, deployment.latencies.records)
    house.ask(images[:5])
    deployment.series.tick(time.time(), deployment.slot.live, deployment.latencies.records)
    answered = status_of(house)
    model = answered["models"]["digits"]
    assert [(v["version"], v["engine"], v["state"]) for v in model["versions"]] == [
        ("1", "float", "committed")
    ]
    assert model["health"] == {"requests": 5, "errors": 0, "nonfinite": 0}
    assert model["queue_length"] == 0
    assert model["build"] is None
    ((_, version, engine, requests, p50_ms, p99_ms),) = model["series"]["points"]
    assert (version, engine, requests) == ("1", "float", 5)
    assert 0 < p50_ms <= p99_ms
    assert answered["started"] == 5.0
    assert answered["edgeq"]


def test_the_page_shows_all_that_a_real_status_tells(
    house: House, digits: Path, built: Path, images: list[dict[str, np.ndarray]]
):
    deployment = house.drop(digits / "digits.tflite")
    house.ask(images[:3])
    now = time.time()
    deployment.series.tick(now, deployment.slot.live, deployment.latencies.records)
    install(house, built)
    house.ask(images[:3])
    deployment.series.tick(now + 10, deployment.slot.live, deployment.latencies.records)
    (house.context.config.models_dir / "bad.tflite").write_bytes(b"no model")
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    assert deployment.monitor is not None
    deployment.drift = deployment.monitor.check()
    answered = status_of(house)
    assert [s["version"] for s in answered["models"]["digits"]["series"]["swaps"]] == ["2"]
    text = re.sub(r"<[^>]*>", " ", Page().html(answered))
    for part in (
        "version 2, cpu-int8",
        "probation",
        "1 drop refused",
        "No frame was looked at",
        "v2",
    ):
        assert part in text
    update = Page().update(answered)
    assert update["states"]["digits"].startswith("probation, version 2 on cpu-int8")
    assert orjson.dumps(update)
