"""Drop -> float served -> samples -> INT8 verified -> swapped, and what people do with it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import DaemonError
from edgeq.tflite.runtime import Runner
from tests.e2e.daemon import Daemon, infer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tritonclient.*")


def test_a_drop_is_served_as_float_then_as_int8_from_live_requests(
    daemon: Daemon, digits: Path, images: np.ndarray
):
    daemon.start({"EDGEQ_BUILD_METHOD": "auto", "EDGEQ_BUILD_REFINE": "true"})
    daemon.drop(digits / "digits.tflite", "digits")
    model = daemon.wait_served("digits", "float")
    assert model["live"]["version"] == "1"
    reference = Runner((digits / "digits.tflite").read_bytes())
    client = daemon.triton()
    seen: dict[str, int] = {}
    for number in range(4000):
        image = images[number % len(images)][None]
        version, scores = infer(client, "digits", "image", image, "scores")
        expected = reference.run({"image": image})["scores"]
        if version == "1":
            np.testing.assert_allclose(scores, expected, atol=1e-6)
        else:
            assert np.abs(scores - expected).max() < 0.3
        seen[version] = seen.get(version, 0) + 1
        if seen.get("2", 0) > 100:
            break
        if number > 100:
            threading.Event().wait(0.01)  # let the niced build have the machine
    assert set(seen) == {"1", "2"}
    model = daemon.wait_served("digits", "cpu-int8")
    assert model["previous"] == "1"
    assert model["live"]["method"] in ("auto", "entropy", "percentile", "mse", "max")
    bundle = daemon.root / "state/bundles/digits/2"
    for name in ("manifest.json", "float.tflite", "int8.tflite", "calibration.json",
                 "calibration.npz", "verdict.json", "golden.npz"):  # fmt: skip
        assert (bundle / name).is_file(), name
    told = json.loads((daemon.models / "digits.status.json").read_text())
    assert told["version"] == "2"


def test_a_new_drop_waits_for_its_int8_engine_while_the_old_serves(serving: Daemon, digits: Path):
    serving.drop(digits / "digits_v2.tflite", "digits")
    model = serving.wait_served("digits", not_version="2")
    assert model["live"]["engine"] == "cpu-int8"
    history = serving.client.call("history", name="digits")
    assert [v["engine"] for v in history["versions"]] == ["cpu-int8", "cpu-int8", "float"]


def test_rollback_serves_the_previous_version_again(serving: Daemon):
    answer = serving.client.call("rollback", name="digits")
    assert (answer["version"], answer["engine"]) == ("1", "float")
    assert serving.status()["models"]["digits"]["live"]["version"] == "1"
    with pytest.raises(DaemonError, match="99"):
        serving.client.call("rollback", name="digits", to="99")


def test_a_pinned_model_ignores_drops_until_it_is_unpinned(serving: Daemon, digits: Path):
    serving.client.call("pin", name="digits")
    serving.drop(digits / "digits_v2.tflite", "digits")
    threading.Event().wait(1.5)
    assert serving.status()["models"]["digits"]["live"]["version"] == "2"
    serving.client.call("unpin", name="digits")
    serving.wait_served("digits", not_version="2")


def test_recalibrate_builds_again_on_the_samples_of_now(serving: Daemon):
    serving.client.call("recalibrate", name="digits")
    model = serving.wait_served("digits", not_version="2")
    assert model["live"]["engine"] == "cpu-int8"


def test_an_int8_drop_is_served_as_it_is(serving: Daemon, tmp_path: Path):
    serving.drop(serving.root / "state/bundles/digits/2/int8.tflite", "ready")
    model = serving.wait_served("ready")
    assert (model["live"]["engine"], model["live"]["method"]) == ("cpu-int8", "as-is")


def test_a_model_with_another_interface_is_refused_under_the_same_name(
    serving: Daemon, tiny_model_bytes: bytes, tmp_path: Path
):
    other = tmp_path / "other.bin"
    other.write_bytes(tiny_model_bytes)
    serving.drop(other, "digits")
    status = serving.wait("quarantined", lambda s: bool(s["quarantine"]))
    assert status["quarantine"][0]["stage"] == "interface"
    assert status["models"]["digits"]["live"]["version"] == "2"


def test_after_a_stop_the_last_version_is_served_at_once(serving: Daemon):
    assert serving.stop() == 0
    assert serving.start() < 15.0  # on an idle machine under a second
    model = serving.status()["models"]["digits"]
    assert (model["live"]["version"], model["live"]["engine"]) == ("2", "cpu-int8")
    threading.Event().wait(1.5)
    assert serving.status()["models"]["digits"]["live"]["version"] == "2"  # no new build


def test_a_stop_answers_the_requests_inside(serving: Daemon, images: np.ndarray):
    failures: list[str] = []
    stopping = threading.Event()

    def send() -> None:
        client = serving.triton()
        while True:  # refused after the stop is fine, cut off before it is not
            was_stopping = stopping.is_set()
            try:
                infer(client, "digits", "image", images[:1], "scores")
            except Exception as error:  # noqa: BLE001 - each client library has its own
                if not was_stopping:
                    failures.append(repr(error))
                return

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.5)
    stopping.set()
    assert serving.stop() == 0
    for thread in threads:
        thread.join(20)
    assert not failures


def test_reload_brings_the_file_into_force_and_says_what_needs_a_restart(
    daemon: Daemon, digits: Path
):
    daemon.start()
    text = daemon.config.read_text()
    changed = text.replace("minimum: 40", "minimum: 41").replace("http_port: 0", "http_port: 1")
    daemon.config.write_text(changed)
    answer = daemon.client.call("reload")
    assert answer["applied"] == ["samples.minimum"]
    assert "server.http_port" in answer["needs_restart"]
    daemon.config.write_text("sever: {}\n")
    with pytest.raises(DaemonError, match="sever"):
        daemon.client.call("reload")
    assert daemon.status()["models"] == {}


def test_sighup_reloads_too(daemon: Daemon):
    daemon.start()
    daemon.config.write_text(daemon.config.read_text().replace("minimum: 40", "minimum: 30"))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon._wait_for_line("configuration reloaded", 0)


def test_the_commands_talk_to_the_daemon(serving: Daemon):

    def edgeq(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgeq", *arguments, "--config", str(serving.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    status = edgeq("status")
    assert status.returncode == 0, status.stderr
    assert "cpu-int8" in status.stdout
    assert json.loads(edgeq("history", "digits", "--json").stdout)["live"] == "2"
    assert "fit" in edgeq("samples", "digits", "list").stdout
    assert json.loads(edgeq("reload", "--wait", "--json").stdout)["applied"] == []
    unknown = edgeq("pin", "nosuch")
    assert unknown.returncode == 1
    assert "nosuch" in unknown.stderr


def test_the_page_and_the_status_are_open_and_the_commands_are_not(serving: Daemon):
    connection = http.client.HTTPConnection("127.0.0.1", serving.http_port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    assert response.status == 200
    assert "digits" in page
    connection.request("POST", "/edgeq/rollback", json.dumps({"name": "digits"}))
    response = connection.getresponse()
    assert response.status == 403
    assert "token" in response.read().decode()
    connection.close()


def test_the_repository_calls_stop_and_start_serving(serving: Daemon):
    client = DaemonOverSocket(serving)
    assert client.post("/v2/repository/models/digits/unload") == 200
    assert serving.status()["models"]["digits"]["live"] is None
    assert client.post("/v2/repository/models/digits/load") == 200
    assert serving.status()["models"]["digits"]["live"]["version"] == "2"


class DaemonOverSocket:
    """Repository calls change the daemon, so they come over its socket."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def post(self, path: str) -> int:
        connection = self._daemon.client._connection()
        try:
            connection.request("POST", path, b"{}")
            return connection.getresponse().status
        finally:
            connection.close()
