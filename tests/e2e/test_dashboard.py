"""The shipped dashboard and rules, on a real Prometheus that scrapes a real daemon with traffic."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer
from tests.e2e.prometheus import Prometheus
from tests.observe import boards
from tests.tools.shipped_dashboard import expressions

WAIT_S = 60.0
# Panels of what need not have happened: a rollback, a drift, a faulty frame, a shadowed request, a
# fault of the box.
MAY_BE_EMPTY = re.compile(
    r"rolled_back|shadow_disagreement|input_health|edgeq_faults|edgeq_drift_active\S+ == 1$"
)
RUN_ON_A_BOARD = """
import sys
from pathlib import Path
from edgeq.cli import main
from edgeq.daemon import loop
sources = loop.sources
loop.sources = lambda root, state: sources(Path(sys.argv[1]), state)
sys.exit(main(sys.argv[2:]))
"""


class DaemonOnOrin(Daemon):
    """A daemon that finds the files of /sys and /proc of an AGX Orin."""

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        board = boards.orin(self.root / "board")
        on_board = [sys.executable, "-c", RUN_ON_A_BOARD, str(board), *command[3:]]
        return super()._spawn(on_board, environment)


def chosen(expression: str) -> str:
    """An expression as Grafana sends it."""
    for variable, value in (
        ("$__rate_interval", "5s"), ("$__interval", "5s"), ("$instance", ".*"), ("$model", ".*")
    ):  # fmt: skip
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@dataclass(frozen=True)
class AtWork:
    """A daemon after a drop, traffic on both engines, a build, and a drop that was refused."""

    daemon: Daemon
    prometheus: Prometheus
    images: np.ndarray

    def ask(self, count: int) -> None:
        """Send so many requests."""
        with closing(self.daemon.triton()) as client:
            for image in self.images[:count]:
                infer(client, "digits", "image", image[None], "scores")


@pytest.fixture(scope="module")
def at_work(
    tmp_path_factory: pytest.TempPathFactory, prometheus_tools: Path, digits: Path,
    images: np.ndarray,
) -> Iterator[AtWork]:  # fmt: skip
    folder = tmp_path_factory.mktemp("at_work")
    daemon = DaemonOnOrin(folder)
    with ExitStack() as opened:
        opened.callback(daemon.close)
        daemon.start({"EDGEQ_DRIFT_POLICY": "alert", "EDGEQ_DRIFT_INTERVAL_S": "0.2"})
        target = f"127.0.0.1:{daemon.metrics_port}"
        prometheus = Prometheus(folder, prometheus_tools, target)
        opened.callback(prometheus.close)
        work = AtWork(daemon, prometheus, images)
        daemon.drop(digits / "digits.tflite", "digits")
        daemon.wait_served("digits", "float")
        work.ask(30)
        daemon.client.add_samples("digits", digits / "digits_samples.npz")
        (daemon.models / "bad.tflite").write_bytes(b"not a model")
        daemon.wait_served("digits", "cpu-int8")
        daemon.wait("quarantined", lambda status: bool(status["quarantine"]))
        work.ask(1)
        yield work


COUNTED = {
    'edgeq_requests_total{code="200",model="digits",protocol="http",version="1"} 30.0',
    'edgeq_swaps_total{model="digits",outcome="committed"} 2.0',
    'edgeq_swaps_total{model="digits",outcome="rolled_back"} 0.0',
    'edgeq_builds_total{model="digits",outcome="succeeded"} 1.0',
    'edgeq_drops_total{outcome="quarantined"} 1.0',
    'edgeq_queue_length{model="digits"} 0.0',
    'edgeq_build_duration_seconds_count{model="digits",stage="calibrate"} 1.0',
    'edgeq_device_temperature_celsius{zone="tj-thermal"} 48.093',
}


def test_the_metrics_of_a_daemon_at_work_are_clean_and_move(
    at_work: AtWork, prometheus_tools: Path
) -> None:
    address = f"http://127.0.0.1:{at_work.daemon.metrics_port}/metrics"
    page, deadline = "", time.monotonic() + WAIT_S
    while COUNTED - set(page.splitlines()) and time.monotonic() < deadline:
        time.sleep(0.05)  # a swap is counted once the new version serves
        with urllib.request.urlopen(address) as response:
            page = response.read().decode()
    assert COUNTED - set(page.splitlines()) == set()
    assert 'edgeq_model_info{engine="cpu-int8"' in page
    assert 'edgeq_samples{model="digits",set="held_out"}' in page
    command = [prometheus_tools / "promtool", "check", "metrics"]
    checked = subprocess.run(command, input=page, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_query_of_the_dashboard_is_answered(at_work: AtWork) -> None:
    prometheus = at_work.prometheus
    prometheus.wait_up()
    asked = [chosen(expression) for expression in expressions()]
    empty = [expression for expression in asked if not MAY_BE_EMPTY.search(expression)]
    assert len(empty) > 40
    deadline = time.monotonic() + WAIT_S
    while empty and time.monotonic() < deadline:
        at_work.ask(20)
        empty = [each for each in empty if not prometheus.values(each, over_s=10.0)]
    assert empty == []
    for expression in asked:
        prometheus.values(expression)
        prometheus.values(expression, over_s=10.0)


def test_every_rule_is_evaluated(at_work: AtWork) -> None:
    prometheus = at_work.prometheus
    prometheus.wait_up()
    deadline = time.monotonic() + WAIT_S
    health = {"unknown"}
    while "unknown" in health and time.monotonic() < deadline:
        time.sleep(0.1)
        groups = prometheus.get("rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        health = {rule["health"] for rule in rules}
    assert health == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
