"""Swaps of a real daemon under traffic: taken back by itself, sent by request, fifty in a row."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import DaemonError
from edgeq.tflite.model import Model, indices
from tests.e2e.daemon import Daemon, infer
from tests.e2e.load import Load, tcp

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tritonclient.*")
WATCHED = {"EDGEQ_SWAP_PROBATION_WINDOW_S": "60"}


@pytest.fixture(scope="module")
def wrong(digits_model: bytes) -> bytes:
    """The digits model with its last weights negated: sound, and of another opinion."""
    model = Model.from_bytes(digits_model)
    (dense,) = (op for op in model.operators if model.op_name(op) == "FULLY_CONNECTED")
    weights = indices(dense.inputs)[1]
    values = model.constant(weights)
    assert values is not None
    model.tensors[weights].buffer = model.add_buffer(-values)
    return model.to_bytes()


def begin_load(daemon: Daemon, images: np.ndarray, clients: int = 2) -> Load:
    """Ask `digits` from several connections."""
    connect = tcp(daemon.http_port)
    return Load("digits", "image", images[:1], keep_alive=[connect] * clients, new=[])


def post(daemon: Daemon, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    connection = daemon.client._connection()
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def sent(content: bytes) -> dict[str, Any]:
    return {"parameters": {"file:1/model.tflite": base64.b64encode(content).decode()}}


def test_a_version_that_disagrees_is_taken_back_by_itself_and_no_request_fails(
    daemon: Daemon, digits: Path, images: np.ndarray, wrong: bytes, tmp_path: Path
):
    daemon.start(WATCHED)
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    load = begin_load(daemon, images)
    load.wait_for(20)
    (daemon.models / "digits.yaml").write_text("probation: {max_disagreement_ratio: 0.3}\n")
    (tmp_path / "wrong.bin").write_bytes(wrong)
    daemon.drop(tmp_path / "wrong.bin", "digits")
    status = daemon.wait("taken back", lambda s: bool(s["quarantine"]))
    load.wait_for(20)
    load.stop()
    assert load.failures == []
    model = status["models"]["digits"]
    assert (model["live"]["version"], model["state"]) == ("1", "serving")
    assert "version 2 after version 1: output 'scores' disagrees by" in model["reason"]
    assert model["reason"].endswith("probation allows 30.0%")
    assert status["quarantine"][0]["stage"] == "probation"
    history = daemon.client.call("history", name="digits")
    assert [v["state"] for v in history["versions"]] == ["rolled_back", "committed"]


def test_a_model_that_is_sent_serves_when_the_call_returns(
    daemon: Daemon, digits_model: bytes, images: np.ndarray
):
    daemon.start(WATCHED)
    path = "/v2/repository/models/digits/load"
    assert post(daemon, path, sent(digits_model)) == (200, {})
    version, scores = infer(daemon.triton(), "digits", "image", images[:1], "scores")
    assert (version, scores.shape) == ("1", (1, 10))
    load = begin_load(daemon, images)
    status, answer = post(daemon, path, sent(b"PK\x03\x04 and more"))
    assert (status, "zip archive" in answer["error"]) == (400, True)
    assert post(daemon, path, {})[0] == 200  # the same version, loaded anew
    assert post(daemon, "/v2/repository/models/nobody/load", {})[0] == 404
    assert post(daemon, "/v2/repository/models/zipped/load", sent(b"PK\x03\x04"))[0] == 400
    load.wait_for(20)
    load.stop()
    assert load.failures == []
    _, index = post(daemon, "/v2/repository/index", {})
    assert {(row["name"], row["state"]) for row in index} == {
        ("digits", "READY"),
        ("zipped", "UNAVAILABLE"),
    }
    assert (daemon.models / "digits.tflite").read_bytes() == digits_model
    with pytest.raises(DaemonError, match="no earlier version"):
        daemon.client.call("rollback", name="digits")


def test_fifty_swaps_under_load_give_the_memory_back(
    daemon: Daemon, digits: Path, images: np.ndarray
):
    daemon.start()
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits")
    daemon.drop(digits / "digits_v2.tflite", "digits")
    daemon.wait_served("digits", not_version="1")
    load = begin_load(daemon, images)

    def swap(times: int) -> None:
        for number in range(times):
            daemon.client.call("rollback", name="digits", to=str(1 + number % 2))

    swap(10)
    before = held(daemon)
    swap(50)
    after = held(daemon)
    load.wait_for(20)
    load.stop()
    assert load.failures == []
    assert after["resident"] < 1.1 * before["resident"]
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["threads"] <= before["threads"] + 2


def held(daemon: Daemon) -> dict[str, int]:
    """What the daemon's process holds now."""
    assert daemon.process is not None
    folder = Path(f"/proc/{daemon.process.pid}")
    return {
        "resident": int((folder / "statm").read_text().split()[1]),
        "descriptors": len(os.listdir(folder / "fd")),
        "threads": len(os.listdir(folder / "task")),
    }
