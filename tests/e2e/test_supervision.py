"""Engines that hang and daemons that die, under a service manager: what serves goes on."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import EdgeqError
from tests.e2e.daemon import Daemon, Status
from tests.service_manager import ServiceManager

NAME = "digits"
WATCHDOG_S = 6.0  # of the service manager; systemd/edgeq.service: 30
ROOT = Path(__file__).resolve().parents[2]


class SupervisedDaemon(Daemon):
    """Its engines may hang; its service manager watches."""

    def __init__(self, root: Path, manager: ServiceManager) -> None:
        super().__init__(root, capture_ratio=0.0)
        self.manager = manager
        self.hanging = root / "hanging"
        self.variables = {
            "HANGING": str(self.hanging),
            "PYTHONPATH": str(ROOT),
            "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
            "EDGEQ_SWAP_HANG_TIMEOUT_S": "1.0",
            "EDGEQ_SWAP_INSTANCES": "1",
            "IS_INLINE": "yes",
        }

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        patched = [command[0], "-m", "tests.e2e.hanging", *command[3:]]
        given = {**environment, **self.variables}
        return self.manager.start(patched, stderr=subprocess.PIPE, env=given)

    def hang(self, kind: str) -> None:
        part = self.hanging.with_suffix(".part")
        part.write_text(kind)
        part.rename(self.hanging)

    def infer_code(self, images: np.ndarray, timeout_s: float = 30.0) -> int:
        """Ask for one inference; returns the status code."""
        body = json.dumps(
            {"inputs": [{"name": "image", "datatype": "FP32", "shape": list(images.shape),
                         "data": images.ravel().tolist()}]}
        )  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout_s)
        try:
            connection.request("POST", f"/v2/models/{NAME}/infer", body)
            return connection.getresponse().status
        finally:
            connection.close()

    def metric(self, line: str) -> float:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(each.split()[-1]) for each in lines if each.startswith(f"{line} "))


@pytest.fixture
def supervised(tmp_path: Path, int8_root: Path) -> Iterator[SupervisedDaemon]:
    manager = ServiceManager(tmp_path / "notify")
    made = SupervisedDaemon(tmp_path, manager)
    for name in ("models", "state"):
        shutil.copytree(int8_root / name, tmp_path / name, dirs_exist_ok=True)
    yield made
    made.hanging.unlink(missing_ok=True)
    made.close()
    manager.close()


def kinds(status: Status) -> list[str]:
    return [event["kind"] for event in status["events"]]


def test_an_engine_that_hangs_on_a_worker_is_replaced_by_the_version_before(
    supervised: SupervisedDaemon, images: np.ndarray
) -> None:
    supervised.variables["IS_INLINE"] = "no"
    supervised.start()
    assert supervised.infer_code(images[:1]) == 200
    supervised.hang("cpu-int8")
    assert supervised.infer_code(images[:1]) == 504
    live = supervised.wait_served(NAME, "float")["live"]
    assert live["version"] == "1"
    assert supervised.infer_code(images[:1]) == 200
    status = supervised.wait("the event", lambda s: {"fault", "engine hung"} <= set(kinds(s)))
    assert "rolled_back" in kinds(status)
    rolled_back = [v["state"] for v in status["models"][NAME]["versions"] if v["version"] == "2"]
    assert rolled_back == ["rolled_back"]
    assert supervised.metric("edgeq_hung_threads") == 1
    assert supervised.metric('edgeq_faults_total{kind="engine_hung"}') == 1
    assert supervised.stop() == 0  # though a thread is still inside


def test_an_engine_that_hangs_on_the_servers_loop_is_not_loaded_by_the_next_process(
    supervised: SupervisedDaemon, images: np.ndarray
) -> None:
    supervised.start()
    assert supervised.infer_code(images[:1]) == 200
    supervised.manager.wait_for("WATCHDOG", "1")
    supervised.hang("cpu-int8")
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[int] = pool.submit(supervised.infer_code, images[:1])
        supervised.manager.wait_for("WATCHDOG", "trigger", 20)
        assert supervised.stop(signal.SIGABRT) == -signal.SIGABRT  # as systemd does then
        assert waiting.exception(10) is not None
    log = "".join(supervised.log)
    where = [line for line in supervised.log if "thread server: infer hanging.py" in line]
    assert where, log
    assert "Fatal Python error: Aborted" in log  # faulthandler's words, which need no interpreter
    supervised.start()
    assert supervised.wait_served(NAME)["live"]["version"] == "1"
    assert supervised.infer_code(images[:1]) == 200
    assert "hung" in json.dumps(supervised.status()["models"][NAME]["versions"])
    assert supervised.metric('edgeq_faults_total{kind="engine_hung"}') == 1


def test_after_three_deaths_edgeq_only_serves_until_it_is_resumed(
    supervised: SupervisedDaemon, digits: Path, images: np.ndarray
) -> None:
    for _ in range(3):
        supervised.start()
        supervised.stop(signal.SIGKILL)
    supervised.start()
    status = supervised.wait("safe mode", lambda s: s["safe_mode"] is not None)
    assert "died 3 times" in status["safe_mode"]["reason"]
    assert "safe mode" in kinds(status)
    assert supervised.metric("edgeq_safe_mode") == 1
    assert status["models"][NAME]["live"]["version"] == "2"
    assert supervised.infer_code(images[:1]) == 200
    supervised.drop(digits / "digits_v2.tflite", "newcomer")
    with pytest.raises(EdgeqError, match="safe mode"):
        supervised.client.call("recalibrate", name=NAME)
    with urllib.request.urlopen(f"http://127.0.0.1:{supervised.http_port}/", timeout=10) as page:
        assert b"edgeq resume" in page.read()
    assert "newcomer" not in supervised.status()["models"]
    assert supervised.client.call("resume") == {"resumed": True}
    supervised.wait_served("newcomer")  # it was held, not lost
    status = supervised.status()
    assert status["safe_mode"] is None
    assert "safe mode ended" in kinds(status)
    assert supervised.stop() == 0
    supervised.start()
    assert supervised.status()["safe_mode"] is None
