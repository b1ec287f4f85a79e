"""The shipped dashboard and rules, on a real Prometheus that scrapes a real daemon with traffic."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon import Daemon, infer
from tests.e2e.prometheus import Prometheus
from tests.observe import boards
from tests.tools.shipped_dashboard import expressions

WAIT_S = 30.0
# Panels of what need not have happened: a rollback, a drift, a faulty frame, a shadowed request.
MAY_BE_EMPTY = re.compile(
    r"rolled_back|shadow_disagreement|input_health|edgeq_drift_active\S+ == 1$"
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


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = DaemonOnOrin(tmp_path)
    yield made
    made.close()


@pytest.fixture
def prometheus(daemon: Daemon, prometheus_tools: Path, tmp_path: Path) -> Iterator[Prometheus]:
    daemon.start({"EDGEQ_DRIFT_POLICY": "alert", "EDGEQ_DRIFT_INTERVAL_S": "0.2"})
    started = Prometheus(tmp_path, prometheus_tools, f"127.0.0.1:{daemon.metrics_port}")
    yield started
    started.close()


def chosen(expression: str) -> str:
    """An expression as Grafana sends it."""
    for variable, value in (
        ("$__rate_interval", "5s"), ("$__interval", "5s"), ("$instance", ".*"), ("$model", ".*")
    ):  # fmt: skip
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def serve_a_while(daemon: Daemon, digits: Path, images: np.ndarray) -> None:
    """A drop, traffic on both engines, a build, and a drop that is refused."""
    daemon.drop(digits / "digits.tflite", "digits")
    daemon.wait_served("digits", "float")
    client = daemon.triton()
    for image in images[:50]:
        infer(client, "digits", "image", image[None], "scores")
    daemon.client.add_samples("digits", digits / "digits_samples.npz")
    (daemon.models / "bad.tflite").write_bytes(b"not a model")
    daemon.wait_served("digits", "cpu-int8")
    for image in images[:60]:
        infer(client, "digits", "image", image[None], "scores")


def test_every_query_of_the_dashboard_is_answered_and_every_rule_evaluated(
    daemon: Daemon, prometheus: Prometheus, digits: Path, images: np.ndarray
) -> None:
    prometheus.wait_up()
    serve_a_while(daemon, digits, images)
    asked = [chosen(expression) for expression in expressions()]
    needed = [expression for expression in asked if not MAY_BE_EMPTY.search(expression)]
    assert len(needed) > 40

    client, deadline = daemon.triton(), time.monotonic() + WAIT_S
    empty = needed
    while empty and time.monotonic() < deadline:
        for image in images[:20]:
            infer(client, "digits", "image", image[None], "scores")
        empty = [each for each in empty if not prometheus.values(each, over_s=10.0)]
    assert empty == []

    for expression in asked:
        prometheus.values(expression)
        prometheus.values(expression, over_s=10.0)
    groups = prometheus.get("rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
    assert any(rule["health"] == "ok" for rule in rules)
