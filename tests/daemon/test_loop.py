"""The daemon's threads: who waits for whom."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.daemon.loop import Daemon

CONFIG = """\
models_dir: models
state_dir: state
intake: {settle_s: 0.0}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """One that was made and not started: its executors are there."""
    (tmp_path / "edgeq.yaml").write_text(CONFIG)
    made = Daemon(tmp_path / "edgeq.yaml", {})
    yield made
    made._shut_down()


def test_a_drop_that_takes_long_to_open_holds_nobody_else_up(
    daemon: Daemon, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_open, may_end = threading.Event(), threading.Event()
    admit = daemon._deployer.admit

    def slow(candidate: Any) -> Any:
        is_open.set()
        assert may_end.wait(30)
        return admit(candidate)

    monkeypatch.setattr(daemon._deployer, "admit", slow)
    shutil.copy(digits / "digits.tflite", tmp_path / "models" / "digits.tflite")
    daemon._arrivals.look(1.0)
    assert is_open.wait(10)
    # The deploy thread is free: swaps, rollbacks and probations of other models go on.
    assert daemon._deploy.submit(lambda: "free").result(10) == "free"
    assert not daemon._deployer.deployments
    may_end.set()
    daemon._intake.submit(lambda: None).result(30)
    assert daemon._deployer.deployments["digits"].version == "1"
